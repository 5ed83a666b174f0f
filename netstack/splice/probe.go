// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/sockaddr"
	"golang.org/x/sys/unix"
)

// Accept accepts a connection at a listener, 0 for IPv4 and 1 for IPv6, and returns
// its socket, non-blocking, which is the caller's, and the container's names for
// it. The error is EAGAIN where there is none. It does not tell Go's scheduler of
// its system calls, which do not wait.
func (h *Hairpin) Accept(which int) (int, Tuple, error) {
	var peer, own unix.RawSockaddrInet6
	fd, errno := accept(h.listeners[which], &peer)
	if errno != 0 {
		return -1, Tuple{}, errno
	}
	size := uint32(unsafe.Sizeof(own))
	if _, _, errno = unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&own)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		unix.Close(fd)
		return -1, Tuple{}, unix.ECONNABORTED
	}
	return fd, Tuple{Container: sockaddr.Get(&peer), Remote: sockaddr.Get(&own)}, nil
}

// Probe starts a connection to the address from inside the container and returns
// where it comes from. One of each family may be under way; ProbeDone ends it.
func (h *Hairpin) Probe(to netip.AddrPort) (netip.AddrPort, error) {
	which := FamilyOf(to.Addr())
	fd := h.probes[which]
	h.ProbeDone(which)
	if err := unix.Connect(fd, sockaddr.Of(to)); err != nil && err != unix.EINPROGRESS {
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
	disconnect(h.probes[which])
}

// accept accepts a connection, with a non-blocking socket, whose peer it notes.
func accept(listener int, peer *unix.RawSockaddrInet6) (int, unix.Errno) {
	size := uint32(unsafe.Sizeof(*peer))
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(peer)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), 0
}

// disconnect breaks off a TCP socket's connection, after which it may have another
// (connect(2), AF_UNSPEC). It fails only where there is nothing to break off.
func disconnect(fd int) {
	none := unix.RawSockaddrInet4{Family: unix.AF_UNSPEC}
	_, _, _ = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), unix.SizeofSockaddrInet4)
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
