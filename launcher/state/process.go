// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Process names a process for good: an id alone may be another's by now. The
// zero Process is none.
type Process struct {
	PID int `json:"pid"`
	// Start is when it started, in clock ticks since boot (proc_pid_stat(5), field
	// 22).
	Start uint64 `json:"start"`
}

// startField is the field of /proc/PID/stat with the start, counted from the one
// behind the command's name, which is field 2.
const startField = 22 - 3

// ProcessOf returns the process with the id pid, which must be one of ours or be
// known to live.
func ProcessOf(pid int) (Process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	start, err := parseStat(b)
	if err != nil {
		return Process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return Process{PID: pid, Start: start}, nil
}

// parseStat finds the start in the text of /proc/PID/stat. The command's name may
// hold anything, parentheses too, so that only the last one ends it.
func parseStat(b []byte) (uint64, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, fmt.Errorf("%q is no stat", b)
	}
	fields := bytes.Fields(b[i+1:])
	if len(fields) <= startField {
		return 0, fmt.Errorf("%q has too few fields", b)
	}
	return strconv.ParseUint(string(fields[startField]), 10, 64)
}

// Open returns a pidfd of the process, which the caller closes. The error is
// unix.ESRCH if it has ended.
func (p Process) Open() (int, error) {
	if p.PID <= 0 {
		return -1, unix.ESRCH
	}
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	// The id cannot pass to another while the pidfd's process is there.
	if now, err := ProcessOf(p.PID); err != nil || now != p {
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// bootID returns the kernel's name for this boot (random(4)), and an empty one
// where there is no /proc.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
