// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/binary"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket returns a non-blocking UDP socket, connected to the server from a port
// that the kernel has drawn for it. It is what dialer gives, for a caller that
// must not block.
func (f *Forwarder) socket(server netip.AddrPort) (int, error) {
	server = netip.AddrPortFrom(server.Addr().Unmap(), server.Port())
	domain, network := unix.AF_INET, "udp4"
	if server.Addr().Is6() {
		domain, network = unix.AF_INET6, "udp6"
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err = f.prepare(fd, network, server); err == nil {
		if errno := rawConnect(fd, server); errno != 0 {
			err = os.NewSyscallError("connect", errno)
		}
	}
	if err != nil {
		rawClose(fd)
		return -1, err
	}
	return fd, nil
}

// prepare does with a socket what its dialer would do before it connects.
func (f *Forwarder) prepare(fd int, network string, server netip.AddrPort) error {
	if onHost(server.Addr()) {
		return nil
	}
	if f.cfg.Control != nil {
		if err := f.cfg.Control(network, server.String(), rawConn(fd)); err != nil {
			return err
		}
	}
	local := f.local(server.Addr())
	if !local.IsValid() {
		return nil
	}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: local.As16()}
	if server.Addr().Is4() {
		sa = &unix.SockaddrInet4{Addr: local.Unmap().As4()}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

// onHost reports whether the server is one of the host's own. To connect to the
// unspecified address reaches loopback, and some resolv.conf mean that by it.
func onHost(server netip.Addr) bool { return server.IsLoopback() || server.IsUnspecified() }

// local returns the address to ask the server from, if one was given.
func (f *Forwarder) local(server netip.Addr) netip.Addr {
	if server.Unmap().Is4() {
		return f.cfg.LocalAddr4
	}
	return f.cfg.LocalAddr6
}

// A rawConn is a descriptor in the form that Config.Control takes.
type rawConn int

// Control implements syscall.RawConn.
func (c rawConn) Control(f func(fd uintptr)) error {
	f(uintptr(c))
	return nil
}

// Read implements syscall.RawConn: there is nothing to read before a socket is
// bound.
func (c rawConn) Read(func(fd uintptr) bool) error { return unix.ENOTCONN }

// Write implements syscall.RawConn.
func (c rawConn) Write(func(fd uintptr) bool) error { return unix.ENOTCONN }

// The calls below cannot block, and do not tell the scheduler that they might:
// that wakes the runtime's monitor thread, which costs more than they do.

func rawConnect(fd int, a netip.AddrPort) unix.Errno {
	var port uint16 // in network order
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&port))[:], a.Port())
	sa4 := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port}
	sa6 := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port}
	sa, size := unsafe.Pointer(&sa6), uintptr(unix.SizeofSockaddrInet6)
	if a.Addr().Is4() {
		sa4.Addr = a.Addr().As4()
		sa, size = unsafe.Pointer(&sa4), unix.SizeofSockaddrInet4
	} else {
		sa6.Addr = a.Addr().As16()
	}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(sa), size)
	return errno
}

func rawWrite(fd int, b []byte) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	runtime.KeepAlive(b)
	return errno
}

func rawRead(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func rawClose(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
