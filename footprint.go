// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A footprint is where the program's code and constants are mapped into this process.
// Most of what they have in memory then is for starting, and for commands that are not
// running. The zero footprint has nothing.
type footprint []span

// A span is a range of addresses.
type span struct{ start, end uintptr }

// takeFootprint finds it, while there is a /proc.
func takeFootprint() footprint {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	return parseMaps(f, exe)
}

// parseMaps returns the mappings of the file that cannot be written, from the format of
// proc_pid_maps(5).
func parseMaps(r io.Reader, file string) footprint {
	var all footprint
	for s := bufio.NewScanner(r); s.Scan(); {
		const fields = 6
		f := strings.Fields(s.Text())
		if len(f) < fields || strings.Join(f[fields-1:], " ") != file || (f[1] != "r-xp" && f[1] != "r--p") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && start < end {
			all = append(all, span{uintptr(start), uintptr(end)})
		}
	}
	return all
}

// drop lets the kernel take it out of this process. The pages stay in the page cache,
// and each is mapped again when it is used: of 11 to 15 MB some three are, for an idle
// helper.
func (f footprint) drop() {
	for _, s := range f {
		// What it does not take stays.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, s.start, s.end-s.start, unix.MADV_DONTNEED)
	}
}
