// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"fmt"
	"os"
	"sync"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// A Loopback is a UDP socket in the container's network namespace, by which services
// are reached that listen at its 127.0.0.1 only. What a frame from the tap says comes
// from loopback, or goes there, is dropped by the container's kernel as a martian (RFC
// 1122 §3.2.1.3 g).
//
// Make it with NewLoopback, and Open it when the first is needed: from then on it has a
// UDP port of the container's. The descriptor stays its owner's. Its methods may be
// called from any goroutine.
type Loopback struct {
	fd   int
	mu   sync.Mutex
	port uint16 // 0 until it is open
}

// LoopbackSocket returns what must be made in the container for a Loopback.
func LoopbackSocket() tap.Socket { return tap.Socket{Domain: unix.AF_INET, Type: unix.SOCK_DGRAM} }

// NewLoopback takes what came of LoopbackSocket. The error says why there is none.
func NewLoopback(f tap.File) (*Loopback, error) {
	if f.Err != nil {
		return nil, fmt.Errorf("make a UDP socket in the container: %w", f.Err)
	}
	return &Loopback{fd: f.FD}, nil
}

// Open has the container's kernel give the socket a port, of its own choice. It may be
// called again. It fails where the container has none left.
func (l *Loopback) Open() error {
	_, err := l.open()
	return err
}

func (l *Loopback) open() (port uint16, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.port != 0 {
		return l.port, nil
	}
	setDatagramOptions(l.fd, false)
	if err := setPacketInfo(l.fd, false); err != nil {
		return 0, err
	}
	_ = unix.SetsockoptInt(l.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) // as for outbound flows
	if err := unix.Bind(l.fd, &unix.SockaddrInet4{}); err != nil {
		return 0, fmt.Errorf("take a UDP port of the container's: %w", err)
	}
	sa, err := unix.Getsockname(l.fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	l.port = uint16(portOf(sa))
	return l.port, nil
}
