// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"runtime"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/sockaddr"
	"golang.org/x/sys/unix"
)

// The system calls of a TCP flow, without telling Go's scheduler of them, which
// calls that cannot block need not do. Told, it keeps its monitor thread awake,
// which takes the processor away from a call that lasts, as connect(2) does where
// the whole handshake happens in it, and hands it to another thread.

// connectSocket begins to connect a non-blocking socket.
func connectSocket(fd int, to netip.AddrPort) unix.Errno {
	var sa unix.RawSockaddrInet6
	size := sockaddr.Put(&sa, to)
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(size))
	return errno
}

// localAddr returns what a socket is bound to, or the zero AddrPort.
func localAddr(fd int) netip.AddrPort {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return sockaddr.Get(&sa)
}

// setOption sets a socket option that is an int.
func setOption(fd, level, name, value int) unix.Errno {
	v := int32(value)
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return errno
}

// shutdownWrite sends a FIN.
func shutdownWrite(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// closeFD closes a socket that does not linger.
func closeFD(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// inQueue returns how many bytes wait in a socket (SIOCINQ of tcp(7)).
func inQueue(fd int) (int, unix.Errno) {
	var n int32
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCINQ, uintptr(unsafe.Pointer(&n)))
	return int(n), errno
}

// read is read(2) of a non-blocking descriptor.
func read(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
