// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Accept accepts a connection at a listener, 0 for IPv4 and 1 for IPv6, and returns
// its socket, non-blocking, which is the caller's, and the container's names for
// it. The error is EAGAIN where there is none.
func (h *Hairpin) Accept(which int) (int, Tuple, error) {
	fd, peer, err := unix.Accept4(h.listeners[which], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, Tuple{}, err
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return -1, Tuple{}, unix.ECONNABORTED
	}
	return fd, Tuple{Container: addrPortOf(peer), Remote: addrPortOf(local)}, nil
}

// Probe starts a connection to the address from inside the container and returns
// where it comes from. One of each family may be under way; ProbeDone ends it.
func (h *Hairpin) Probe(to netip.AddrPort) (netip.AddrPort, error) {
	which := familyOf(to.Addr())
	fd := h.probes[which]
	h.ProbeDone(which)
	if err := unix.Connect(fd, sockaddr(to)); err != nil && err != unix.EINPROGRESS {
		return netip.AddrPort{}, fmt.Errorf("connect to %s from the container: %w", to, err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	return addrPortOf(sa), nil
}

// ProbeDone breaks off a probe of the family, 0 for IPv4 and 1 for IPv6.
func (h *Hairpin) ProbeDone(which int) {
	// Fails only where there is nothing to break off.
	none := unix.RawSockaddrInet4{Family: unix.AF_UNSPEC}
	_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(h.probes[which]), uintptr(unsafe.Pointer(&none)), unix.SizeofSockaddrInet4)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
