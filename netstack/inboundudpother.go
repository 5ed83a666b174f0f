// SPDX-License-Identifier: Apache-2.0

package netstack

import "net/netip"

// A service may listen at one family only, and a client that was told "localhost" come by
// the other. Of TCP the refused connection goes to the other family. Of UDP there is a
// datagram, which is gone when the container says that nobody listens; so a copy is kept of
// what a client sends first. From then on the port's new clients go where somebody listens,
// until the container says otherwise.

const (
	// keptClients is how many clients' first datagrams are kept. The container's word comes
	// within a millisecond, in which no more come than that.
	keptClients = 32
	// keptSize bounds what is kept of one (bytes): the first datagram of a protocol fits a
	// packet of the network, which is where it comes from.
	keptSize = 2048
)

// keptDatagrams are those that clients have sent first, in turn.
type keptDatagrams struct {
	ring [keptClients]keptDatagram
	next int
}

// A keptDatagram is what a flow's client has sent first.
type keptDatagram struct {
	flow    *inboundFlow // nil once it is used
	body    []byte
	arrival arrival
}

// end returns where in the container a new client's datagrams go.
func (p *udpPort) end(client netip.Addr) netip.AddrPort {
	first := p.target(client)
	if other := p.other(first); p.turned[familyOf(first)] && other.IsValid() {
		return other
	}
	return first
}

// other is the container's end in the other family, which is invalid where there is none.
func (p *udpPort) other(first netip.AddrPort) netip.AddrPort {
	to := p.listener.other(first)
	if p.Loopback && p.n.inbound.inlet(to.Addr()) == nil {
		return netip.AddrPort{}
	}
	return to
}

// familyOf is the index of an end's family: 0 is IPv4.
func familyOf(a netip.AddrPort) int {
	if a.Addr().Is4() {
		return 0
	}
	return 1
}

// keep keeps what the flow's client has sent first, if it may have to be sent again.
func (p *udpPort) keep(f *inboundFlow, parts [][]byte, a arrival) {
	if total(parts) > keptSize || !p.other(f.container).IsValid() {
		return
	}
	t := &p.n.inbound.udp.kept
	k := &t.ring[t.next]
	t.next = (t.next + 1) % keptClients
	k.flow, k.arrival, k.body = f, a, k.body[:0]
	for _, b := range parts {
		k.body = append(k.body, b...)
	}
}

// turn has the client of a flow that is refused try the other family, with what it has
// sent first. It reports false where that is refused already, or there is none. The port's
// new clients follow, unless somebody listens where this one was refused.
func (p *udpPort) turn(f *inboundFlow) bool {
	to := p.other(f.container)
	if f.second || !to.IsValid() {
		return false
	}
	if first := p.target(f.client.Addr()); p.end(f.client.Addr()) == f.container && !p.served(f.container) {
		p.turned[familyOf(first)] = to != first
	}
	next := p.open(f.client, to)
	if next == nil {
		return true
	}
	next.second = true
	// The refusal may have come to light while datagrams are being sent.
	p.n.loop.Defer(func() { p.again(f, next) })
	return true
}

// again sends what the client of a flow has sent first to where the next leads.
func (p *udpPort) again(f, next *inboundFlow) {
	t := &p.n.inbound.udp.kept
	for i := range t.ring {
		k := &t.ring[i]
		if k.flow != f {
			continue
		}
		k.flow = nil
		if p.clients[next.client] == next {
			p.deliver([][]byte{k.body}, k.arrival)
			p.n.pending.flush()
		}
		return
	}
}
