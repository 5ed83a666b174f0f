// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"fmt"
	"os"
	"sync"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// A Loopback has UDP sockets in the container's network namespace, one of each family, by
// which services are reached that listen at its 127.0.0.1 or ::1 only. What a frame from
// the tap says comes from loopback, or goes there, is dropped by the container's kernel as
// a martian (RFC 1122 §3.2.1.3 g, RFC 4291 §2.5.3).
//
// Make it with NewLoopback, and Open it when the first is needed: from then on each has a
// UDP port of the container's. The descriptors stay their owner's. Its methods may be
// called from any goroutine.
type Loopback struct {
	mu     sync.Mutex
	v4, v6 loopbackSocket
}

// A loopbackSocket is one of them; fd is negative where there is none.
type loopbackSocket struct {
	fd   int
	port uint16 // 0 until it is open
}

// LoopbackSockets returns what must be made in the container for a Loopback.
func LoopbackSockets() []tap.Socket {
	return []tap.Socket{{Domain: unix.AF_INET, Type: unix.SOCK_DGRAM}, {Domain: unix.AF_INET6, Type: unix.SOCK_DGRAM}}
}

// NewLoopback takes what came of LoopbackSockets, in that order. The error says why there
// is none; a container without IPv6 has one of IPv4.
func NewLoopback(made []tap.File) (*Loopback, error) {
	if err := made[0].Err; err != nil {
		return nil, fmt.Errorf("make a UDP socket in the container: %w", err)
	}
	return &Loopback{v4: loopbackSocket{fd: made[0].FD}, v6: loopbackSocket{fd: made[1].FD}}, nil
}

// Open has the container's kernel give the sockets ports, of its own choice. It may be
// called again. It fails where the container has none left; that it has no IPv6 is no
// failure.
func (l *Loopback) Open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.v4.open(false); err != nil {
		return err
	}
	if l.v6.fd >= 0 && l.v6.open(true) != nil {
		l.v6.fd = -1
	}
	return nil
}

// open gives the socket a port, if it has none, and asks for what is to be known of its
// datagrams. An IPv6 socket may send from addresses that are none of the container's.
func (s *loopbackSocket) open(v6 bool) error {
	if s.port != 0 {
		return nil
	}
	var anywhere unix.Sockaddr = &unix.SockaddrInet4{}
	if v6 {
		anywhere = &unix.SockaddrInet6{}
		for _, opt := range [...]int{unix.IPV6_V6ONLY, unix.IPV6_FREEBIND} {
			if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, opt, 1); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
	}
	setDatagramOptions(s.fd, v6)
	if err := setPacketInfo(s.fd, v6); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) // as for outbound flows
	if err := unix.Bind(s.fd, anywhere); err != nil {
		return fmt.Errorf("take a UDP port of the container's: %w", err)
	}
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	s.port = uint16(portOf(sa))
	return nil
}

// sockets returns those that are open, of IPv4 and IPv6; a port of 0 means that there is
// none.
func (l *Loopback) sockets() (v4, v6 loopbackSocket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.v4, l.v6
}
