// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"os"
	"strconv"
	"strings"
)

const (
	// unprivilegedStart is the file of the sysctl that says from which port on
	// everybody may bind (ip(7)).
	unprivilegedStart = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
	// defaultUnprivilegedStart holds where the file cannot be read.
	defaultUnprivilegedStart = 1024
	// startDigits is more than the file has.
	startDigits = 16
)

// LowPorts tells who may have which ports, and who we are. It is opened early: a
// process that has confined itself can neither open the one nor find out the other.
// The zero lowPorts knows the kernel's default only.
type lowPorts struct {
	file    *os.File
	program string
}

func openLowPorts() lowPorts {
	l := lowPorts{program: "slipway"}
	if path, err := os.Executable(); err == nil {
		l.program = path
	}
	if f, err := os.Open(unprivilegedStart); err == nil {
		l.file = f
	}
	return l
}

// start returns the first port that everybody may have, as it is now.
func (l lowPorts) start() int {
	if l.file == nil {
		return defaultUnprivilegedStart
	}
	var b [startDigits]byte
	size, _ := l.file.ReadAt(b[:], 0) // at its end it says io.EOF
	n, err := strconv.Atoi(strings.TrimSpace(string(b[:size])))
	if err != nil {
		return defaultUnprivilegedStart
	}
	return n
}

func (l lowPorts) close() {
	if l.file != nil {
		l.file.Close()
	}
}
