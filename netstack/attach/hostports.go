// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/slipway-net/slipway/netstack/hostport"
	"github.com/slipway-net/slipway/netstack/sockaddr"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

const (
	// MaxHostPorts is how many HostPorts there may be: each has a socket of each family,
	// for which the set-up of the tap has room.
	MaxHostPorts = 16
	// hostBacklog is how many clients of each socket wait to be accepted.
	hostBacklog = 128
)

// A HostPort says that the TCP port Port of the container's loopback leads to the port
// Host of the host's. It is a plain value.
type HostPort struct{ Port, Host uint16 }

// hostPortSockets are what HostPorts need in the container: sockets of both families for
// each, which are bound from outside.
func hostPortSockets(ports []HostPort) []tap.Socket {
	var all []tap.Socket
	for range ports {
		all = append(all, tap.Socket{Domain: unix.AF_INET, Type: unix.SOCK_STREAM}, tap.Socket{Domain: unix.AF_INET6, Type: unix.SOCK_STREAM})
	}
	return all
}

// openHostPorts listens at the container's loopback. A container may lack IPv6.
func (s *Session) openHostPorts() error {
	if len(s.cfg.HostPorts) == 0 {
		return nil
	}
	if len(s.cfg.HostPorts) > MaxHostPorts {
		return fmt.Errorf("%d ports of the host's loopback: want at most %d", len(s.cfg.HostPorts), MaxHostPorts)
	}
	if s.cfg.Device != nil {
		return errors.New("ports of the host's loopback need a tap that slipway makes")
	}
	made := s.opened().ports
	var listeners []hostport.Listener
	for i, p := range s.cfg.HostPorts {
		for j, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			file, at := made[2*i+j], netip.AddrPortFrom(a, p.Port)
			err := listenAt(file, at)
			if err != nil && a.Is6() && missing6(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("listen at %s in the container: %w", at, err)
			}
			listeners = append(listeners, hostport.Listener{FD: file.FD, To: netip.AddrPortFrom(a, p.Host)})
		}
	}
	var err error
	s.hostPorts, err = hostport.New(listeners)
	return err
}

// missing6 reports whether the error is that of a container without IPv6.
func missing6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// listenAt makes a listener of a socket in the container, which stays the tap's. lo need
// not be up yet (IP_FREEBIND, which holds for both families).
func listenAt(made tap.File, at netip.AddrPort) error {
	if made.Err != nil {
		return made.Err
	}
	options := [][3]int{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, {unix.IPPROTO_IP, unix.IP_FREEBIND, 1}}
	if at.Addr().Is6() {
		options = append(options, [3]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(made.FD, o[0], o[1], o[2]); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(made.FD, sockaddr.Of(at)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", unix.Listen(made.FD, hostBacklog))
}

// leadHostPorts leads clients to the host until ctx is done.
func (s *Session) leadHostPorts(ctx context.Context) error {
	if s.hostPorts == nil {
		return nil
	}
	return s.hostPorts.Run(ctx)
}

// closeHostPorts gives back what leads clients; who listens for them is the tap's.
func (s *Session) closeHostPorts() error {
	if s.hostPorts == nil {
		return nil
	}
	return s.hostPorts.Close()
}
