// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processes returns the helper's own: where it made the container, also those that
// it started for itself, but not the endpoint.
func (h *helper) processes() ([]int, error) {
	if h.endpoint == nil {
		return []int{h.pid}, nil
	}
	return processTree(h.pid, h.endpoint.pid)
}

// cpu returns the CPU time in seconds that the helper has used.
func (h *helper) cpu() (float64, error) {
	total := 0.0
	err := h.each(func(pid int) error {
		seconds, err := cpuSeconds(pid)
		total += seconds
		return err
	})
	return total, err
}

// memory returns what the helper's processes hold in RAM. Pages that they share
// count once for each.
func (h *helper) memory() (memory, error) {
	var total memory
	err := h.each(func(pid int) error {
		m, err := processMemory(pid)
		total.RSS += m.RSS
		total.Anon += m.Anon
		return err
	})
	return total, err
}

// each calls f for the helper's processes. One that it started may end meanwhile.
func (h *helper) each(f func(pid int) error) error {
	pids, err := h.processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		err := f(pid)
		gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
		if err != nil && (pid == h.pid || !gone) {
			return err
		}
	}
	return nil
}

// processTree returns the process and those that descend from it, leaving out the
// process without and its descendants.
func processTree(root, without int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	parents := map[int]int{}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it ended in the meantime
		}
		pid, parent, err := parseParent(b)
		if err != nil {
			return nil, err
		}
		parents[pid] = parent
	}
	return descend(parents, root, without), nil
}

// descend returns root and its descendants, sorted, without that one's subtree.
func descend(parents map[int]int, root, without int) []int {
	all := []int{root}
	for todo := all; len(todo) > 0; todo = todo[1:] {
		for pid, parent := range parents {
			if parent == todo[0] && pid != without {
				all, todo = append(all, pid), append(todo, pid)
			}
		}
	}
	slices.Sort(all)
	return all
}

// parseParent reads the process id and its parent's, the first and the fourth field
// of /proc/PID/stat (proc(5)).
func parseParent(b []byte) (pid, parent int, err error) {
	end := bytes.LastIndexByte(b, ')')
	first, _, _ := strings.Cut(string(b), " ")
	f := strings.Fields(string(b[end+1:]))
	if end < 0 || len(f) < 2 {
		return 0, 0, fmt.Errorf("list processes: malformed stat %q", b)
	}
	if pid, err = strconv.Atoi(first); err != nil {
		return 0, 0, fmt.Errorf("list processes: %w", err)
	}
	if parent, err = strconv.Atoi(f[1]); err != nil {
		return 0, 0, fmt.Errorf("list processes: %w", err)
	}
	return pid, parent, nil
}
