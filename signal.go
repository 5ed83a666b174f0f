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
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("%w: signal %q: want a name such as TERM, or a number from 1 to %d", errUsage, s, lastSignal)
}
