// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"unsafe"

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
	return int(fd), addrPort(&sa), 0
}

// inbound begins a flow for a connection that a client has made.
func (t *tcpTable) inbound(l *listener, fd int, client netip.AddrPort) {
	n := t.n
	to := l.target(client.Addr())
	if !to.IsValid() || len(t.flows) >= n.cfg.MaxFlows || t.connecting >= maxConnecting || t.perHost[to.Addr()] >= maxConnectingPerHost {
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
	f.connects()
	f.dial()
}

// target returns the container's end of what comes from the client; it is invalid where
// there is none.
func (l *listener) target(client netip.Addr) netip.AddrPort {
	to := l.Container
	if l.Loopback {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	}
	if to.Addr().IsValid() {
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

// maxNames is how many ports are tried for a client that cannot be shown as it is.
const maxNames = 64

// nameInbound says how the container is to see the flow: by the client's own address
// and port if that can be, else by the gateway's address, and the client's port if that
// is free.
func (t *tcpTable) nameInbound(to, client netip.AddrPort) (tuple, bool) {
	key := tuple{container: to, remote: client}
	if to.Addr().IsLoopback() {
		// The container's kernel chooses what can be on its loopback. Until then the
		// client's name is as unique.
		return key, t.free(key)
	}
	if t.n.showable(client.Addr(), to.Addr()) && t.free(key) {
		return key, true
	}
	gateway := t.n.cfg.Plan.Of(to.Addr()).Gateway
	if !gateway.IsValid() {
		return key, false
	}
	port := client.Port()
	for range maxNames {
		key.remote = netip.AddrPortFrom(gateway, port)
		if port != 0 && t.free(key) {
			return key, true
		}
		t.nextName++
		port = firstName + t.nextName%(1<<16-firstName)
	}
	return key, false
}

// firstName is the first port that is made up: of the range that IANA calls dynamic
// (RFC 6335 §6).
const firstName = 49152

// showable reports whether the container can take a client for what it is: an address
// that is one of its own, ours or of its link, would not come back to us.
func (n *Network) showable(client, container netip.Addr) bool {
	f := n.cfg.Plan.Of(container)
	return client.Is4() == container.Is4() && client != container && !f.Ours(client) && client != f.Container &&
		!client.IsLoopback() && !client.IsUnspecified() && !client.IsMulticast() && !client.IsLinkLocalUnicast()
}

// free reports whether the name can be a new flow's; one that is over makes room.
func (t *tcpTable) free(key tuple) bool {
	f := t.flows[key]
	if f == nil {
		return true
	}
	if f.state != closed {
		return false
	}
	f.abort()
	t.forget(f)
	return true
}
