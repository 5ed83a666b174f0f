// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Accept accepts a connection at a listener, 0 for IPv4 and 1 for IPv6, and returns
// its socket, non-blocking, which is the caller's, and the container's names for
// it. The error is EAGAIN where there is none. It does not tell Go's scheduler of
// its system calls, which do not wait.
func (h *Hairpin) Accept(which int) (int, Tuple, error) {
	var peer, own unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(peer))
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(h.listeners[which]), uintptr(unsafe.Pointer(&peer)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, Tuple{}, errno
	}
	size = uint32(unsafe.Sizeof(own))
	if _, _, errno = unix.RawSyscall(unix.SYS_GETSOCKNAME, fd, uintptr(unsafe.Pointer(&own)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		unix.Close(int(fd))
		return -1, Tuple{}, unix.ECONNABORTED
	}
	return int(fd), Tuple{Container: addrPortIn(&peer), Remote: addrPortIn(&own)}, nil
}

// Probe starts a connection to the address from inside the container and returns
// where it comes from. One of each family may be under way; ProbeDone ends it.
func (h *Hairpin) Probe(to netip.AddrPort) (netip.AddrPort, error) {
	which := FamilyOf(to.Addr())
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

// addrPortIn reads a socket address of either family, as the kernel has written it.
func addrPortIn(sa *unix.RawSockaddrInet6) netip.AddrPort {
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], sa.Port)
	at := binary.BigEndian.Uint16(port[:])
	if sa.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), at)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), at)
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
