// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"errors"
	"net/netip"

	"github.com/slipway-net/slipway/netstack/loop"
)

// An inlet is how datagrams of clients get to services at the container's loopback of one
// family, and the answers back: by one socket of a Loopback's for all of them. Each client
// gets a source address of its own. So the service can tell clients apart, and the address
// that it answers to names the flow (IP_PKTINFO of ip(7)).
//
// The addresses of IPv4 are out of 127.0.0.0/8, all of which the container's kernel takes
// for its own, so that answers and errors come to the socket. IPv6 has but one loopback
// address. There the addresses are nobody's, to which IPV6_FREEBIND has the kernel lend
// itself; answers and errors leave by the default route, and come as frames from ::1.
//
// It is owned by the loop.
type inlet struct {
	n       *Network
	service netip.Addr // where services are sought
	first   netip.Addr // that a client gets
	past    netip.Addr // the one behind the last
	fd      int
	port    uint16 // of the socket; 0 until it is served
	token   loop.Token
	next    netip.Addr // that a client gets
}

// loopback4 is where services are sought first.
func loopback4() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// inlet4 returns the inlet of IPv4. In 127.0.0.0/16 programs have services of their own,
// such as 127.0.0.53. Addresses are taken in turn, so that one is another client's only
// after 16 million.
func inlet4(n *Network) inlet {
	return inlet{
		n: n, service: loopback4(),
		first: netip.AddrFrom4([4]byte{127, 1, 0, 1}), past: netip.AddrFrom4([4]byte{127, 255, 255, 255}),
	}
}

// nobodys has the addresses that clients get at ::1. Nothing is sent there in earnest (RFC
// 6666); package splice has its own in another part of 100::/64.
func nobodys() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 1, 9: 1}), 80)
}

// inlet6 returns the inlet of IPv6.
func inlet6(n *Network) inlet {
	return inlet{
		n: n, service: netip.IPv6Loopback(),
		first: nobodys().Addr().Next(), past: netip.AddrFrom16([16]byte{0: 1, 9: 2}),
	}
}

// openInlets begins to serve the sockets, unless they are served already.
func (t *inboundTable) openInlets() error {
	l := t.n.cfg.Loopback
	if l == nil {
		return errors.New("the container's loopback is out of reach of UDP")
	}
	if err := l.Open(); err != nil {
		return err
	}
	v4, v6 := l.sockets()
	if err := t.inlets[0].open(v4); err != nil {
		return err
	}
	// Where answers cannot come back nothing is sent.
	if v6.port == 0 || !t.n.cfg.Plan.V6.Enabled() {
		return nil
	}
	return t.inlets[1].open(v6)
}

// inlet returns the inlet to that address; nil where there is none.
func (t *inboundTable) inlet(service netip.Addr) *inlet {
	for i := range t.inlets {
		if in := &t.inlets[i]; in.service == service && in.port != 0 {
			return in
		}
	}
	return nil
}

func (i *inlet) open(s loopbackSocket) error {
	if i.port != 0 {
		return nil
	}
	var err error
	if i.token, err = i.n.loop.Add(s.fd, loop.Readable|loop.Edge, i); err != nil {
		return err
	}
	i.fd, i.port, i.next = s.fd, s.port, i.first
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
		as := netip.AddrPortFrom(i.next, i.port)
		if i.next = i.next.Next(); i.next == i.past {
			i.next = i.first
		}
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

// answers reports whether a packet from the container's loopback, which no other may be,
// can be an answer to a client, or say that nobody listens.
func (i *inlet) answers(p *packet) bool {
	if i.port == 0 || p.src != i.service || !nobodys().Contains(p.dst) {
		return false
	}
	return p.proto == protoUDP || p.proto == protoICMPv6 && !p.frag.part && len(p.l4) > 0 && p.l4[0] == unreachKindv6
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
// that nobody listens; of IPv6 it comes by the tap.
func (i *inlet) drainErrors() bool {
	return i.n.drainErrors(i.fd, i.service, func(e *socketError) {
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
