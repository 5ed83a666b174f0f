// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of the times in /proc/PID/stat, which is 100
// on every architecture that Go supports (proc(5)).
const ticksPerSecond = 100

// cpuSeconds returns the user and system time that the process has used, all of
// its threads included.
func cpuSeconds(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	ticks, err := parseStat(b)
	if err != nil {
		return 0, err
	}
	// The one counts threads that have ended, the other less than a tick.
	return max(ticks, runSeconds(pid)), nil
}

// runSeconds returns the time that the process's living threads have run, to the
// nanosecond; 0 where the kernel does not count it (sched-stats in the kernel's
// Documentation/scheduler).
func runSeconds(pid int) float64 {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0
	}
	total := uint64(0)
	for _, path := range threads {
		first, _, _ := strings.Cut(readFile(path), " ")
		ns, err := strconv.ParseUint(first, 10, 64)
		if err != nil {
			continue // it ended in the meantime
		}
		total += ns
	}
	return time.Duration(total).Seconds()
}

// parseStat reads utime and stime, the 14th and 15th field of /proc/PID/stat. The
// second field is a name in parentheses that may itself contain them and blanks.
func parseStat(b []byte) (float64, error) {
	const utime, stime = 14 - 3, 15 - 3 // counted from the field after the name
	end := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[end+1:]))
	if end < 0 || len(f) <= stime {
		return 0, fmt.Errorf("read CPU time: malformed stat %q", b)
	}
	u, err := strconv.ParseUint(f[utime], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	s, err := strconv.ParseUint(f[stime], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return float64(u+s) / ticksPerSecond, nil
}

// machineCPU returns the seconds that all cores together have worked since boot,
// for whomever: programs, the kernel and its interrupts.
func machineCPU() (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read the machine's CPU time: %w", err)
	}
	return parseMachineStat(string(b))
}

// parseMachineStat adds up the first line of /proc/stat without idle, iowait and
// steal. The time of guests, the 9th and 10th number, is part of user and nice
// already (proc_stat(5)).
func parseMachineStat(s string) (float64, error) {
	first, _, _ := strings.Cut(s, "\n")
	f := strings.Fields(first)
	const user, nice, system, irq, softirq = 1, 2, 3, 6, 7
	if len(f) <= softirq || f[0] != "cpu" {
		return 0, fmt.Errorf("read the machine's CPU time: malformed stat %q", first)
	}
	sum := uint64(0)
	for _, i := range []int{user, nice, system, irq, softirq} {
		n, err := strconv.ParseUint(f[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the machine's CPU time: %w", err)
		}
		sum += n
	}
	return float64(sum) / ticksPerSecond, nil
}

// A memory is what a process holds in RAM, in KiB.
type memory struct {
	RSS  int64 `json:"rss_kib"`
	Anon int64 `json:"anon_kib"` // the part not backed by a file, such as the program
	// PSS is RSS with what processes share divided among them; 0 where we may not
	// read it.
	PSS int64 `json:"pss_kib,omitempty"`
}

// processMemory reads VmRSS and RssAnon of the process, and Pss if it may.
func processMemory(pid int) (memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, fmt.Errorf("read memory: %w", err)
	}
	m, err := parseStatus(string(b))
	if err != nil {
		return memory{}, err
	}
	// Only who may trace a process may read this (proc_pid_smaps(5)), which a helper
	// can deny.
	if rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)); err == nil {
		m.PSS = parsePSS(string(rollup))
	}
	return m, nil
}

// parsePSS reads the line "Pss:" of smaps_rollup; 0 where there is none.
func parsePSS(s string) int64 {
	for line := range strings.Lines(s) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

func parseStatus(s string) (memory, error) {
	m := memory{RSS: -1, Anon: -1}
	for line := range strings.Lines(s) {
		key, value, _ := strings.Cut(line, ":")
		to := map[string]*int64{"VmRSS": &m.RSS, "RssAnon": &m.Anon}[key]
		if to == nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("read memory: %s: %w", key, err)
		}
		*to = n
	}
	if m.RSS < 0 || m.Anon < 0 {
		return memory{}, fmt.Errorf("read memory: VmRSS or RssAnon missing")
	}
	return m, nil
}
