// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lastSignal is the highest number of a signal (signal(7), SIGRTMAX).
const lastSignal = 64

// parseSignal reads a signal as kill(1) does: by number, or by name with or without
// SIG.
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= lastSignal {
		return unix.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	if sig := realTime(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("%w: signal %q: want a name such as TERM, or a number from 1 to %d", errUsage, s, lastSignal)
}

// firstRealTime is the number of SIGRTMIN as C libraries have it: they keep the two below
// it to themselves (signal(7)).
const firstRealTime = 34

// realTime reads RTMIN, RTMIN+N, RTMAX or RTMAX-N, by which images of systemd ask to be
// ended. It returns 0 for none.
func realTime(name string) unix.Signal {
	base, offset, more := strings.Cut(strings.Replace(name, "-", "+-", 1), "+")
	n, ok := map[string]int{"RTMIN": firstRealTime, "RTMAX": lastSignal}[base]
	if !ok {
		return 0
	}
	if more {
		by, err := strconv.Atoi(offset)
		if err != nil {
			return 0
		}
		n += by
	}
	if n < firstRealTime || n > lastSignal {
		return 0
	}
	return unix.Signal(n)
}
