// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/sockaddr"
	"golang.org/x/sys/unix"
)

// acceptTCP accepts what waits at a published TCP port, some at a time: clients may
// come as fast as we accept.
func (l *listener) acceptTCP() {
	for range maxAccepts {
		if l.n.inbound.listeners[l.ID] != l || !l.accept() {
			return
		}
	}
	l.n.loop.Defer(l.acceptTCP)
}

// accept accepts one connection, and reports whether there was one.
func (l *listener) accept() bool {
	fd, client, errno := acceptSocket(l.FD)
	switch errno {
	case 0:
		l.n.tcp.inbound(l, fd, client)
		return true
	case unix.EAGAIN:
		return false
	case unix.ECONNABORTED, unix.EINTR, unix.EPROTO:
		return true
	}
	// It is not told of again, since that needs a new one to come.
	l.stuck = true
	l.n.noSocket(errno)
	return false
}

// closeTCP ends the flows that came by the port, if so wished.
func (l *listener) closeTCP(cut bool) {
	if !cut {
		return
	}
	for _, f := range l.n.tcp.flows {
		if f.by == l && f.state != closed {
			f.abort()
			l.n.tcp.forget(f)
		}
	}
}

// acceptSocket is accept4(2), without telling Go's scheduler: it does not wait.
func acceptSocket(listener int) (int, netip.AddrPort, unix.Errno) {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&sa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(fd), sockaddr.Get(&sa), 0
}

// inbound begins a flow for a connection that a client has made.
func (t *tcpTable) inbound(l *listener, fd int, client netip.AddrPort) {
	n := t.n
	to := l.target(client.Addr())
	if !to.IsValid() || !t.room(to.Addr()) {
		n.count.inc(dropFlowLimit)
		resetClose(fd)
		return
	}
	key, ok := t.nameInbound(to, client)
	if !ok {
		n.count.inc(dropFlowLimit)
		resetClose(fd)
		return
	}
	f := &tcpFlow{flow: n.newFlow(key.container, key.remote, client), table: t, key: key, by: l, state: dialing, fd: fd}
	t.flows[key] = f
	n.count.inc(flowsTCP)
	f.inbound = true
	t.guests++
	f.connects()
	f.dial()
}

// target returns the container's end of what comes from the client; it is invalid where
// there is none.
func (l *listener) target(client netip.Addr) netip.AddrPort {
	to := l.Container
	switch {
	case l.Loopback:
		return netip.AddrPortFrom(loopback4(), to.Port())
	case to.Addr().IsValid():
		return to
	}
	plan := l.n.cfg.Plan
	if f := plan.Of(client); f.Enabled() {
		return netip.AddrPortFrom(f.Container, to.Port())
	}
	for _, f := range plan.Families() {
		return netip.AddrPortFrom(f.Container, to.Port())
	}
	return netip.AddrPort{}
}

// other returns the container's end in the other family, which is invalid where there is
// none, or the user has said which it is to be.
func (l *listener) other(first netip.AddrPort) netip.AddrPort {
	switch {
	case l.Loopback && first.Addr().Is4():
		return netip.AddrPortFrom(netip.IPv6Loopback(), first.Port())
	case l.Loopback:
		return netip.AddrPortFrom(loopback4(), first.Port())
	case l.Container.Addr().IsValid():
		return netip.AddrPort{}
	}
	for _, f := range l.n.cfg.Plan.Families() {
		if f.Container.Is4() != first.Addr().Is4() {
			return netip.AddrPortFrom(f.Container, first.Port())
		}
	}
	return netip.AddrPort{}
}

// nameInbound names a flow by its two ends as the container sees them.
func (t *tcpTable) nameInbound(to, client netip.AddrPort) (tuple, bool) {
	if to.Addr().IsLoopback() {
		// The container's kernel chooses what can be on its loopback. Until then the
		// client's name is as unique.
		key := tuple{container: to, remote: client}
		return key, t.free(key)
	}
	as := t.n.inbound.name(client, to, func(as netip.AddrPort) bool { return t.free(tuple{container: to, remote: as}) })
	return tuple{container: to, remote: as}, as.IsValid()
}

// free reports whether the name can be a new flow's; one that is over makes room.
func (t *tcpTable) free(key tuple) bool {
	f := t.flows[key]
	if f == nil {
		return true
	}
	if f.state != closed && !f.clientClosed() {
		return false
	}
	f.abort()
	t.forget(f)
	return true
}

// clientClosed reports whether there is no connection of a client's any more, of which
// the loop may not have told yet: the same client may come again at once.
func (f *tcpFlow) clientClosed() bool {
	if f.by == nil || f.fd < 0 {
		return false
	}
	ti, err := unix.GetsockoptTCPInfo(f.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && ti.State == unix.BPF_TCP_CLOSE
}
