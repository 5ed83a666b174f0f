// SPDX-License-Identifier: Apache-2.0

package hostport

import (
	"net/netip"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/relay"
	"github.com/slipway-net/slipway/netstack/sockaddr"
	"golang.org/x/sys/unix"
)

// events are what sockets are watched for.
const events = loop.Readable | loop.Urgent | loop.Writable | loop.ReadHangUp | loop.Edge

// noFD is in the place of a socket that is not there.
const noFD = -1

// A client is led to the host. It belongs to the loop.
//
//	dialing ──connected──> joined ──both ways at their end, or an error──> ended
type client struct {
	server *Server
	fds    [2]int // by end of the relay
	tokens [2]loop.Token
	next   []netip.AddrPort // to be dialed yet
	joined bool
	relay  relay.Relay
}

// lead leads a client that was accepted.
func (s *Server) lead(fd int, to netip.AddrPort) {
	c := &client{server: s, fds: [2]int{relay.Container: fd, relay.Host: noFD}, next: []netip.AddrPort{to, other(to)}}
	s.clients[c] = struct{}{}
	setOptions(fd)
	c.dial()
}

// other returns the port at the loopback of the other family.
func other(to netip.AddrPort) netip.AddrPort {
	if to.Addr().Is4() {
		return netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
}

// dial begins to connect to what comes next, or else ends.
func (c *client) dial() {
	for len(c.next) > 0 {
		to := c.next[0]
		c.next = c.next[1:]
		fd, err := connect(to)
		if err != nil {
			continue
		}
		c.fds[relay.Host] = fd
		if c.watch(relay.Host) {
			return
		}
	}
	c.end(true)
}

// connect returns a socket that connects.
func connect(to netip.AddrPort) (int, error) {
	domain := unix.AF_INET
	if to.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return noFD, err
	}
	setOptions(fd)
	if err := unix.Connect(fd, sockaddr.Of(to)); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return noFD, err
	}
	return fd, nil
}

// setOptions sets what a relay wants of its sockets. None of it can fail for TCP.
func setOptions(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
}

// watch watches an end, and reports whether it does. One that cannot be watched is
// closed.
func (c *client) watch(which int) bool {
	t, err := c.server.loop.Add(c.fds[which], events, loop.HandlerFunc(func(ev loop.Events) { c.ready(which, ev) }))
	if err != nil {
		c.closeEnd(which, true)
		return false
	}
	c.tokens[which] = t
	return true
}

// ready is called with the events of an end.
func (c *client) ready(which int, ev loop.Events) {
	if !c.joined {
		c.connected(ev)
		return
	}
	c.relay.Note(which, ev)
	c.move()
}

// connected is called with the events of the host's end while that connects.
func (c *client) connected(ev loop.Events) {
	if ev&(loop.Error|loop.HangUp|loop.Writable) == 0 {
		return
	}
	if errno, err := unix.GetsockoptInt(c.fds[relay.Host], unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
		c.closeEnd(relay.Host, true)
		c.dial()
		return
	}
	c.joined = true
	c.relay.Start(&c.server.pool, c.fds[relay.Container], c.fds[relay.Host])
	c.relay.Note(relay.Host, ev)
	if !c.watch(relay.Container) {
		c.end(true)
	}
}

// move moves bytes both ways as far as both ends let it.
func (c *client) move() {
	if c.fds[relay.Container] == noFD {
		return // it has ended since
	}
	more, err := c.relay.Move()
	switch {
	case err != nil:
		c.end(true)
	case c.relay.Done():
		c.end(false)
	case more:
		c.server.loop.Defer(c.move)
	}
}

// end closes both ends, with a reset to both peers if so wished.
func (c *client) end(reset bool) {
	c.relay.Stop()
	for which := range c.fds {
		c.closeEnd(which, reset)
	}
	c.server.forget(c)
}

// closeEnd closes an end, if it is there.
func (c *client) closeEnd(which int, reset bool) {
	fd := c.fds[which]
	if fd == noFD {
		return
	}
	c.server.loop.Forget(c.tokens[which])
	if reset {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(fd)
	c.fds[which], c.tokens[which] = noFD, 0
}
