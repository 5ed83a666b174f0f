// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// orphanRounds bounds how often the children are listed: ending one may hand its
	// own children to us.
	orphanRounds = 10
	// orphanPoll is the time between two looks at one that is to end.
	orphanPoll = time.Millisecond
	// orphanTime bounds the wait for it: one may hang in the kernel.
	orphanTime = time.Second
)

// endOrphans kills and collects what a helper left behind: as a subreaper the stage
// inherits its children. It must run while the stage has no children that it wants.
func endOrphans() error {
	for range orphanRounds {
		pids, err := children(os.Getpid())
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := endChild(pid); err != nil {
				return err
			}
		}
	}
	return errors.New("end what a helper left behind: there is always more of it")
}

func endChild(pid int) error {
	// It may have ended already; waiting tells.
	_ = unix.Kill(pid, unix.SIGKILL)
	for end := time.Now().Add(orphanTime); ; {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		switch {
		case got == pid || errors.Is(err, unix.ECHILD):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("collect process %d: %w", pid, err)
		case time.Now().After(end):
			return fmt.Errorf("end process %d, which a helper left behind: it did not end within %s", pid, orphanTime)
		}
		pause := unix.NsecToTimespec(int64(orphanPoll))
		// A pause cut short is only a shorter one.
		_ = unix.Nanosleep(&pause, nil)
	}
}

// children returns the processes whose parent is pid.
func children(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []int
	for _, path := range stats {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		if parentOf(child) == pid {
			all = append(all, child)
		}
	}
	return all, nil
}

// parentOf returns the process's parent, 0 where there is no such process.
func parentOf(pid int) int {
	// The parent is the second field after the name (proc_pid_stat(5)), which may
	// contain blanks and parentheses.
	b := readFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(b[strings.LastIndexByte(b, ')')+1:])
	if len(f) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return 0
	}
	return parent
}
