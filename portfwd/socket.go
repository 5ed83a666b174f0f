// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// backlog is how many connections wait to be accepted at a port: what
	// net.core.somaxconn allows by default, and never more than it does.
	backlog = 4096
	// deferSeconds is for how long a client that says nothing is kept from the
	// container, where a rule asks for that. Clients' own patience ends about then.
	deferSeconds = 30
)

// A stepError says which system call failed.
type stepError struct {
	step string
	err  error
}

// Error returns the step and the error.
func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }

// Unwrap returns the error without the step.
func (e *stepError) Unwrap() error { return e.err }

// bind makes the socket for a rule of one port, bound but not listening, and
// returns what it is bound to. It is the caller's to close.
func bind(r Rule) (int, netip.AddrPort, error) {
	if r.Host.IsValid() {
		return bindAt(r, r.Host, false)
	}
	// One socket takes both families.
	fd, host, err := bindAt(r, netip.IPv6Unspecified(), true)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return bindAt(r, netip.IPv4Unspecified(), false) // a host without IPv6
	}
	return fd, host, err
}

// bindAt binds to an address; both is for an IPv6 socket that takes IPv4 as well.
func bindAt(r Rule, a netip.Addr, both bool) (fd int, host netip.AddrPort, err error) {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	if a.Is6() {
		domain = unix.AF_INET6
	}
	if r.Proto == UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err = unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, host, &stepError{"make a socket", err}
	}
	defer func() {
		if err != nil {
			closeSocket(fd)
			fd = -1
		}
	}()
	if err := configure(fd, r, a, both); err != nil {
		return fd, host, err
	}
	sa, err := sockaddr(fd, r, a)
	if err != nil {
		return fd, host, &stepError{stepInterface, err}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fd, host, &stepError{stepBind, err}
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return fd, host, &stepError{"ask for the port", err}
	}
	return fd, netip.AddrPortFrom(a, portOf(bound)), nil
}

// Steps that errors are told apart by.
const (
	stepBind      = "bind"
	stepInterface = "bind to the interface"
)

// configure sets what has to be before bind. Accepted connections inherit NODELAY
// and OOBINLINE from the socket that listens.
func configure(fd int, r Rule, a netip.Addr, both bool) error {
	type option struct{ level, name, value int }
	var options []option
	if a.Is6() {
		only := 1
		if both {
			only = 0
		}
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only})
	}
	if r.Proto == TCP {
		options = append(options,
			// Connections of a former life that are in TIME_WAIT do not keep the port.
			option{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
			option{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			option{unix.SOL_SOCKET, unix.SO_OOBINLINE, 1})
	}
	if r.Defer {
		options = append(options, option{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferSeconds})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return &stepError{"set up the socket", err}
		}
	}
	if r.Interface != "" {
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, r.Interface); err != nil {
			return &stepError{stepInterface, err}
		}
	}
	return nil
}

// sockaddr returns the address to bind to. One of a single link needs the index of
// the interface too.
func sockaddr(fd int, r Rule, a netip.Addr) (unix.Sockaddr, error) {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: int(r.HostPort), Addr: a.As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(r.HostPort), Addr: a.As16()}
	if a.IsLinkLocalUnicast() {
		ifr, err := unix.NewIfreq(r.Interface)
		if err != nil {
			return nil, err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
			return nil, err
		}
		sa.ZoneId = ifr.Uint32()
	}
	return sa, nil
}

func portOf(sa unix.Sockaddr) uint16 {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port)
	case *unix.SockaddrInet6:
		return uint16(sa.Port)
	}
	return 0
}

// listen lets connections in.
func listen(fd int) error {
	if err := unix.Listen(fd, backlog); err != nil {
		return &stepError{"listen", err}
	}
	return nil
}

// closeSocket gives a socket back. Linux has released the descriptor whatever it
// returns.
func closeSocket(fd int) { _ = unix.Close(fd) }
