// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"runtime"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/relay"
	"github.com/slipway-net/slipway/netstack/splice"
	"golang.org/x/sys/unix"
)

const (
	// maxSpareSockets is how many sockets are kept, of each family: about as many as end
	// before the next begin, where many connections are made at once.
	maxSpareSockets = 64
	// spareBytes is what a connection may have carried at most whose socket is kept: the
	// kernel has not yet made its buffers larger than those of a new one.
	spareBytes = 32 << 10
)

// spareSockets are TCP sockets of the host's whose connection is over, kept for another:
// to connect one again costs less than to close it and to make a new one, which takes its
// file, its inode and its place in the loop with it. The kernel makes a socket as good as
// new by disconnecting it (tcp_disconnect of net/ipv4/tcp.c); what it learned of the path,
// it forgets, and options of ours stay. The zero spareSockets has none. They belong to the
// loop.
type spareSockets struct {
	fds  [2][]int // of IPv4 and IPv6
	used bool     // since the last tick
}

// take returns one for a connection to that address. The loop has known it before.
func (s *spareSockets) take(to netip.Addr) (int, bool) {
	of := &s.fds[splice.FamilyOf(to)]
	n := len(*of)
	if n == 0 {
		return -1, false
	}
	fd := (*of)[n-1]
	*of = (*of)[:n-1]
	s.used = true
	return fd, true
}

// keep keeps a socket that was connected to that address, and reports whether it did: not
// where its connection has not quite ended, which is for the kernel to wait for.
func (s *spareSockets) keep(fd int, to netip.Addr) bool {
	of := &s.fds[splice.FamilyOf(to)]
	if len(*of) >= maxSpareSockets || socketState(fd) != unix.BPF_TCP_CLOSE || disconnect(fd) != 0 {
		return false
	}
	*of = append(*of, fd)
	return true
}

// expire closes those that nobody has had a use for lately.
func (s *spareSockets) expire() {
	if !s.used {
		s.close()
	}
	s.used = false
}

func (s *spareSockets) close() {
	for i, fds := range s.fds {
		for _, fd := range fds {
			closeFD(fd)
		}
		s.fds[i] = nil
	}
}

// reusable reports whether sockets to the flow's host are alike: where they are bound to an
// address or interface, that may depend on the host.
func (f *tcpFlow) reusable() bool { return f.socket == "" && f.table.n.cfg.Outbound == Outbound{} }

// spare keeps the host's end of a spliced flow that is over for another, and reports whether
// it did. That of a peer which has closed first waits for an acknowledgment of our FIN.
func (f *tcpFlow) spare() bool {
	return f.by == nil && f.spliced != nil && f.spliced.relay.First(relay.Container) && f.spliced.relay.Done() &&
		!f.watched && f.up+f.down <= spareBytes && f.reusable() && f.table.spares.keep(f.fd, f.host.Addr())
}

// watch has the loop tell h of a socket's events, which it has known before or not: one
// that is used again.
func (n *Network) watch(fd int, known bool, h loop.Handler) (loop.Token, error) {
	if known {
		if t := n.loop.Again(fd, h); t != 0 {
			return t, nil
		}
	}
	return n.loop.Add(fd, hostEvents, h)
}

// socketState returns the state of a TCP socket, the first byte of TCP_INFO (tcp(7)).
func socketState(fd int) byte {
	var state [1]byte
	size := uint32(len(state))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&state)), uintptr(unsafe.Pointer(&size)), 0)
	runtime.KeepAlive(&size)
	if errno != 0 {
		return 0
	}
	return state[0]
}
