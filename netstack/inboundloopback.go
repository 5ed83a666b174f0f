// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"errors"
	"net/netip"

	"github.com/slipway-net/slipway/netstack/loop"
)

// An inlet is how datagrams of clients get to services at the container's loopback, and
// the answers back: by a Loopback, one socket for all of them. Each client gets a source
// address out of 127.0.0.0/8, all of which the container's kernel takes for its own
// (IP_PKTINFO of ip(7)). So the service can tell clients apart, and the address that it
// answers to names the flow. IPv6 has only one loopback address, so that this cannot be
// had there.
//
// It is owned by the loop.
type inlet struct {
	n     *Network
	fd    int
	port  uint16 // of the socket; 0 until it is served
	token loop.Token
	last  netip.Addr // that a client got
}

// loopback4 is where services are sought.
func loopback4() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// The addresses that clients get are those between these two: in 127.0.0.0/16 programs
// have services of their own, such as 127.0.0.53. They are taken in turn, so that one is
// another client's only after 16 million.
func beforeLoopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 1, 0, 0}) }
func afterLoopback() netip.Addr  { return netip.AddrFrom4([4]byte{127, 255, 255, 255}) }

// open begins to serve the socket, unless it is served already.
func (i *inlet) open() error {
	if i.port != 0 {
		return nil
	}
	l := i.n.cfg.Loopback
	if l == nil {
		return errors.New("the container's loopback is out of reach of UDP")
	}
	port, err := l.open()
	if err != nil {
		return err
	}
	if i.token, err = i.n.loop.Add(l.fd, loop.Readable|loop.Edge, i); err != nil {
		return err
	}
	i.fd, i.port, i.last = l.fd, port, beforeLoopback()
	return nil
}

func (i *inlet) close() {
	if i.port == 0 {
		return
	}
	i.n.loop.Remove(i.fd, i.token)
	i.port = 0
}

// name returns an address for a new client. The zero AddrPort means that there is none.
func (i *inlet) name(container netip.AddrPort) netip.AddrPort {
	for range maxPortTries {
		if i.last = i.last.Next(); i.last == afterLoopback() {
			i.last = beforeLoopback().Next()
		}
		as := netip.AddrPortFrom(i.last, i.port)
		if i.n.inbound.udp.flows[tuple{container, as}] == nil {
			return as
		}
	}
	return netip.AddrPort{}
}

// outlet returns how the datagrams of a client reach the service.
func (i *inlet) outlet(as netip.AddrPort) *outlet {
	return &outlet{owner: i, fd: i.fd, gsoMax: maxDatagram, shared: true, source: as.Addr()}
}

// Ready is called by the loop with the socket's events.
func (i *inlet) Ready(ev loop.Events) {
	if ev&loop.Error != 0 {
		i.drainErrors()
	}
	i.receive()
}

func (i *inlet) receive() {
	if i.port == 0 {
		return // closed since this was put off
	}
	more := i.n.receiver().drain(i.fd, i, false)
	i.n.pending.flush()
	if more {
		i.n.loop.Defer(i.receive)
	}
}

// deliver is datagramSink's. Anybody in the container may send to the socket; an answer
// comes from whom the client has asked, as on a connected socket.
func (i *inlet) deliver(parts [][]byte, a arrival) {
	f := i.n.inbound.udp.flows[tuple{a.from, netip.AddrPortFrom(a.to, i.port)}]
	if f == nil || f.in == nil {
		i.n.count.inc(dropSpoofed)
		return
	}
	for _, b := range parts {
		f.answer(b, nil, a.segment, hopOrDefault(a.ttl), 0)
	}
}

// drainErrors is outletOwner's and datagramSink's. The one error that loopback makes is
// that nobody listens.
func (i *inlet) drainErrors() bool {
	return i.n.drainErrors(i.fd, loopback4(), func(e *socketError) {
		f := i.n.inbound.udp.flows[tuple{e.dst, netip.AddrPortFrom(e.local, i.port)}]
		if f != nil && [2]uint8{e.kind, e.code} == icmpTypes[portUnreachable].v4 {
			f.refused()
		}
	})
}

// ends is outletOwner's: a client of the host's is told of no errors.
func (i *inlet) ends(netip.AddrPort) (container, remote netip.AddrPort) { return }

// enter sends what a client has sent to the service.
func (f *inboundFlow) enter(parts [][]byte, a arrival) {
	pending := &f.port.n.pending
	if ttl := hopOrDefault(a.ttl); f.in.ttl != ttl {
		pending.flush() // what is pending was chosen otherwise
		f.in.ttl = ttl
	}
	for _, b := range parts {
		pending.put(f.in, f.container, a.segment, b, nil)
	}
}

// hopOrDefault is what a router leaves of a hop limit that may be unknown.
func hopOrDefault(ttl uint8) uint8 {
	if ttl == 0 {
		return defaultTTL
	}
	return hop(ttl)
}
