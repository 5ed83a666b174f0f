// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A flow whose host end is a Unix socket differs from others in little. It connects
// at once or not at all; there is no way to reset it, so that a reset of the
// container's looks to the service as if all had been sent; its reads stop short at
// a message that came with descriptors (unix(7)), which go nowhere; and a service
// that has closed is noticed by the very next write, even before what it had sent is
// read. The container gets that, and then the reset that says that not all of its own
// was taken. Options and questions that only TCP knows fail there, and need not be
// kept from it.
//
// The path is looked up for each connection, so that a service may come, go and be
// replaced, with its directory. A process that is to lose sight of the file system
// would have to open the directories before, and connect relative to them.

// newSocket returns the host's end, which is not connected yet, and whether it was before:
// then the loop knows it.
func (f *tcpFlow) newSocket() (fd int, known bool, err error) {
	if f.socket == "" {
		if f.reusable() {
			if fd, known := f.table.spares.take(f.host.Addr()); known {
				return fd, true, nil
			}
		}
		fd, err = f.table.n.cfg.Outbound.socket(f.host.Addr(), unix.SOCK_STREAM, 0)
		return fd, false, err
	}
	f.toEnd = true
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return fd, false, os.NewSyscallError("socket", err)
}

// dialHost begins to connect the host's end. EINPROGRESS means that the loop will tell.
func (f *tcpFlow) dialHost() unix.Errno {
	if f.socket == "" {
		return connectSocket(f.fd, f.host)
	}
	err := unix.Connect(f.fd, &unix.SockaddrUnix{Name: f.socket})
	t := f.table
	if err != nil && err != unix.EAGAIN && t.lines.allowed(t.n.now) {
		t.n.log.Warn("a socket of the host cannot be reached", "socket", f.socket, "err", err)
	}
	return socketRefusal(err)
}

// socketRefusal returns the errno of a TCP connect that fails as the one to a Unix
// socket did. Where nobody listens, or there is no such socket, it is refused. Where
// the service does not keep up with accepting, EAGAIN, the SYN is lost without a
// word, as Linux loses it in that case (tcp_abort_on_overflow of tcp(7)): the
// container's kernel sends it again, after a second first.
func socketRefusal(err error) unix.Errno {
	var errno unix.Errno
	if err == nil {
		return 0
	}
	if errors.As(err, &errno) {
		switch errno {
		case unix.EAGAIN, unix.EACCES, unix.EPERM:
			return errno
		}
	}
	return unix.ECONNREFUSED
}

// endCut ends a flow whose service took not all that the container sent, and has sent
// all of its own: the reset that says so has to wait until the container's kernel has
// that, since it would take back the rest. Nothing tells when; each tick asks.
func (f *tcpFlow) endCut() {
	switch {
	case !f.delivered() && f.table.n.now-f.last < orphanTimeout:
	case f.spliced != nil:
		f.endSpliced(true)
	default:
		f.reset()
	}
}

// delivered reports whether the container's kernel has all that it is to get, with
// the FIN behind it, or will never have.
func (f *tcpFlow) delivered() bool {
	if f.spliced != nil {
		ti, err := unix.GetsockoptTCPInfo(f.spliced.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err != nil || ti.State == unix.BPF_TCP_FIN_WAIT2 || ti.State == unix.BPF_TCP_CLOSE
	}
	switch tcp.EndpointState(f.ep.State()) {
	case tcp.StateEstablished, tcp.StateCloseWait, tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
		return false
	}
	return true
}
