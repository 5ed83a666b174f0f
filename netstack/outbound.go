// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/slipway-net/slipway/netstack/sockaddr"
	"golang.org/x/sys/unix"
)

// Outbound says where on the host flows leave from. The zero Outbound leaves it
// to the host's routing. It is a plain value.
type Outbound struct {
	// Addr4 and Addr6 are bound to, where valid, by sockets of their family.
	Addr4, Addr6 netip.Addr
	// Interface is the name of the interface that sockets are bound to
	// (SO_BINDTODEVICE of socket(7)); empty for none.
	Interface string
}

// ParseOutbound adds s, an address or the name of an interface of the host, to o.
// Both must exist when it is called.
func ParseOutbound(o Outbound, s string) (Outbound, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		if _, err := net.InterfaceByName(s); err != nil {
			return o, fmt.Errorf("outbound address %q: neither an address nor an interface of this host", s)
		}
		o.Interface = s
		return o, nil
	}
	a = a.Unmap()
	probe := Outbound{}
	probe.set(a)
	fd, err := probe.socket(a, unix.SOCK_DGRAM, 0)
	if err != nil {
		return o, fmt.Errorf("outbound address %s: is it an address of this host? %w", a, err)
	}
	unix.Close(fd)
	o.set(a)
	return o, nil
}

// Control prepares a socket as the other flows' are, for net.Dialer's use: it
// binds it to the interface. The address is net.Dialer's LocalAddr's part.
func (o Outbound) Control(fd uintptr) error {
	if o.Interface == "" {
		return nil
	}
	return os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(int(fd), o.Interface))
}

// Addr returns the address to bind to for a destination like dst, if any.
func (o Outbound) Addr(dst netip.Addr) netip.Addr {
	if dst.IsLoopback() {
		return netip.Addr{} // no other address reaches it
	}
	if dst.Is4() {
		return o.Addr4
	}
	return o.Addr6
}

func (o *Outbound) set(a netip.Addr) {
	if a.Is4() {
		o.Addr4 = a
	} else {
		o.Addr6 = a
	}
}

// socket makes a non-blocking socket for traffic to dst.
func (o Outbound) socket(dst netip.Addr, kind, proto int) (int, error) {
	domain := unix.AF_INET
	if dst.Is6() {
		domain = unix.AF_INET6
	}
	r, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(domain), uintptr(kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC), uintptr(proto))
	if errno != 0 {
		return -1, os.NewSyscallError("socket", errno)
	}
	fd := int(r)
	if err := o.bind(fd, dst, kind); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (o Outbound) bind(fd int, dst netip.Addr, kind int) error {
	if dst.IsLoopback() {
		return nil
	}
	if err := o.Control(uintptr(fd)); err != nil {
		return err
	}
	a := o.Addr(dst)
	if !a.IsValid() {
		return nil
	}
	if kind == unix.SOCK_STREAM {
		// The port is chosen by connect(2), which knows the destination, and so
		// may use one port for several.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sockaddr.Of(netip.AddrPortFrom(a, 0))))
}

// ControlConn is Control in the form that net.Dialer takes.
func (o Outbound) ControlConn(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = o.Control(fd) }), err)
}
