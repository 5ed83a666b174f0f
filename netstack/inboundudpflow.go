// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"container/list"
	"net/netip"
	"time"
)

const (
	// unansweredIdle is how long a client is kept that the container has not
	// answered: what comes of a datagram comes soon, and a forged one costs no more.
	unansweredIdle = 30 * time.Second
	// unansweredShare is which part of the flows may be of such clients: one in so
	// many. A flood of them leaves alone those that the container speaks with.
	unansweredShare = 4
)

// An inboundUDP has the flows of the clients of all published UDP ports. It is owned
// by the loop.
type inboundUDP struct {
	n     *Network
	flows map[tuple]*inboundFlow
	// The flows, least recently used first: those whose client the container has not
	// answered, and those whose it has.
	unanswered, answered list.List
	replaced             int // of the answered since the last tick
	deaf                 map[*udpPort]struct{}
	kept                 keptDatagrams
}

// An inboundFlow is what passes between one client of a published port and the
// container. It is owned by the loop.
type inboundFlow struct {
	flow                   // remote is the client as the container sees it
	client  netip.AddrPort // its own address and port
	port    *udpPort
	out     outlet
	in      *outlet // to a service at the container's loopback; nil for others
	second  bool    // nobody listens at the other end of the container's
	element *list.Element
	list    *list.List // that has it
}

func (t *inboundUDP) init(n *Network) {
	t.n = n
	t.flows = make(map[tuple]*inboundFlow)
	t.deaf = make(map[*udpPort]struct{})
	t.unanswered.Init()
	t.answered.Init()
}

// makeRoom ends the least recently used of the flows without an answer, if there are
// as many as may be. It costs no system call, so that no bound is needed.
func (t *inboundUDP) makeRoom() {
	if t.unanswered.Len() >= max(1, t.n.cfg.MaxFlows/unansweredShare) {
		t.n.count.inc(flowsEvicted)
		t.close(t.unanswered.Front().Value.(*inboundFlow))
	}
}

// promote notes that the container has answered the flow's client. Where there are as
// many such flows as may be the least recently used makes room, but not so many in one
// tick that a flood drives out all.
func (t *inboundUDP) promote(f *inboundFlow) {
	if f.list == &t.answered {
		return
	}
	if limit := t.n.cfg.MaxFlows - t.n.cfg.MaxFlows/unansweredShare; t.answered.Len() >= limit {
		if t.replaced >= maxEvictions {
			return // it stays where it is
		}
		t.replaced++
		t.n.count.inc(flowsEvicted)
		t.close(t.answered.Front().Value.(*inboundFlow))
	}
	f.list.Remove(f.element)
	f.list = &t.answered
	f.element = f.list.PushBack(f)
}

func (t *inboundUDP) add(f *inboundFlow) {
	f.list = &t.unanswered
	f.element = f.list.PushBack(f)
	t.flows[f.key()] = f
	f.port.clients[f.client] = f
	t.n.count.inc(flowsUDPIn)
}

// used notes that f is the most recently used.
func (t *inboundUDP) used(f *inboundFlow) {
	f.last = t.n.now
	f.list.MoveToBack(f.element)
}

func (t *inboundUDP) close(f *inboundFlow) {
	f.list.Remove(f.element)
	delete(t.flows, f.key())
	delete(f.port.clients, f.client)
	t.n.logFlow("flow closed", f.info)
}

// expire ends what was idle for too long, and lets deaf ports hear again.
func (t *inboundUDP) expire() {
	t.replaced = 0
	always := func(*inboundFlow, time.Duration) bool { return true }
	expireIdle(&t.unanswered, t.n.now, unansweredIdle, always, t.close)
	expireIdle(&t.answered, t.n.now, udpIdle, always, t.close)
	for p := range t.deaf {
		if t.n.now-p.deaf.since >= deafFor {
			p.listen()
		}
	}
}

func (t *inboundUDP) infos(fs []FlowInfo) []FlowInfo {
	for _, f := range t.flows {
		fs = append(fs, f.info())
	}
	return fs
}

// shown says as whom the container sees a client; the zero AddrPort means that there is
// no name left. One client may come to one place by two published ports.
func (t *inboundUDP) shown(client, container netip.AddrPort) netip.AddrPort {
	return t.n.inbound.name(client, container, func(as netip.AddrPort) bool { return t.flows[tuple{container, as}] == nil })
}

func (f *inboundFlow) key() tuple { return tuple{f.container, f.remote} }

// arrived notes where the client sent to: answers come from there.
func (f *inboundFlow) arrived(a arrival) {
	if !a.to.IsLinkLocalUnicast() {
		a.ifindex = 0 // which way they go is the host's routing's
	}
	if f.out.source == a.to && f.out.ifindex == a.ifindex {
		return
	}
	f.port.n.pending.flush() // what is pending goes by the old one
	f.out.source, f.out.ifindex = a.to, a.ifindex
	f.host = netip.AddrPortFrom(a.to, f.port.Host.Port())
}

// reply sends a datagram of the container's, or the segments of that size that it is
// made of, to the client.
func (f *inboundFlow) reply(p *packet, segment int) {
	if f.port.n.expired(p) {
		return
	}
	f.answer(p.l4[udpLen:], p.rest, segment, max(1, p.ttl-1), p.tos)
}

// answer sends a payload in two pieces, to go with that hop limit and traffic class.
func (f *inboundFlow) answer(head, rest []byte, segment int, ttl, tos uint8) {
	n := f.port.n
	f.port.listen()
	f.port.heard[familyOf(f.container)] = n.now
	n.inbound.udp.promote(f)
	n.inbound.udp.used(f)
	if f.out.ttl != ttl || f.out.tos != tos {
		n.pending.flush() // what is pending was chosen otherwise
		f.out.ttl, f.out.tos = ttl, tos
	}
	f.up += uint64(len(head) + len(rest))
	n.pending.put(&f.out, f.client, segment, head, rest)
}

// drainErrors is outletOwner's: the socket is the port's.
func (f *inboundFlow) drainErrors() bool { return f.port.drainErrors() }

// ends is outletOwner's. No frame gets to a service at the container's loopback.
func (f *inboundFlow) ends(netip.AddrPort) (container, remote netip.AddrPort) {
	if f.in != nil {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	return f.container, f.remote
}

// undelivered tells the container of an ICMP error about an answer of its.
func (f *inboundFlow) undelivered(e *socketError) {
	n := f.port.n
	if f.in != nil {
		return // no frame gets there
	}
	if f.client.Addr().Is4() != f.container.Addr().Is4() {
		n.report(&packet{
			src: f.container.Addr(), dst: f.remote.Addr(), proto: protoUDP, ttl: f.out.ttl,
			l4: quotedUDP(f.container.Port(), f.remote.Port(), len(e.body), e.body),
		}, troubleOfICMP(e.kind, e.code, f.client.Addr().Is6()))
		return
	}
	from := n.cfg.Policy.SeenAs(protoUDP, netip.AddrPortFrom(e.offender, 0)).Addr()
	if e.offender == f.client.Addr() {
		from = f.remote.Addr()
	}
	n.passError(e, f.container, f.remote, from, f.out.ttl)
}

func (f *inboundFlow) info() FlowInfo {
	state, path := "unanswered", PathLink
	if f.list == &f.port.n.inbound.udp.answered {
		state = open.String()
	}
	if f.in != nil {
		path = PathLoopback
	}
	return f.flow.info(f.port.n.now, "udp", path, state)
}
