// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"

	"github.com/slipway-net/slipway/netstack/frag"
	"github.com/slipway-net/slipway/netstack/neighbor"
	"github.com/slipway-net/slipway/netstack/relay"
	"github.com/slipway-net/slipway/tap"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// ingress handles the frame of size bytes that lies in the receive buffers.
func (n *Network) ingress(size int) {
	n.count.inc(framesIn)
	n.count.add(bytesIn, uint64(size))
	head := n.rx.head.AsSlice()[:min(size, headLen)]
	rest := n.rx.data.AsSlice()[:min(max(0, size-headLen), frameRest)]
	if c := n.link.capture.Load(); c != nil {
		c.frame([][]byte{head, rest})
	}
	if len(head) < ethernetLen {
		n.count.inc(dropMalformed)
		return
	}
	eth := header.Ethernet(head)
	n.link.learn(head[6:12])
	switch eth.Type() {
	case header.ARPProtocolNumber:
		if reply, ok := n.neighbor.ARP(head[ethernetLen:]); ok {
			n.emit.raw(uint16(header.ARPProtocolNumber), reply)
		}
	case header.IPv4ProtocolNumber, header.IPv6ProtocolNumber:
		n.frameLen = size
		n.ip(head[ethernetLen:], rest)
	default:
		n.count.inc(dropProtocol)
	}
}

// ip handles the IP packet that the frame holds.
func (n *Network) ip(l3, rest []byte) {
	p, ok := parsePacket(l3, rest)
	if !ok {
		n.count.inc(dropMalformed)
		return
	}
	if n.spoofed(&p) {
		n.count.inc(dropSpoofed)
		return
	}
	var vh tap.VNetHdr
	if n.link.offload.Has(tap.OffloadVNet) {
		vh.Decode(n.rx.vnet[:])
	}
	if p.frag.part {
		n.fragment(&p)
		return
	}
	segment := 0
	if vh.GSOType == tap.VNetGSOUDPL4 {
		segment = int(vh.GSOSize)
	}
	n.transport(&p, l3, segment, partialChecksum(&vh))
}

// transport hands a whole packet to the handler of its protocol.
func (n *Network) transport(p *packet, l3 []byte, segment int, partial bool) {
	if p.proto != protoTCP && !n.throttles[relay.Container].bucket.Pass(n.frameLen) {
		n.count.inc(dropBandwidth)
		return
	}
	switch {
	case p.proto == protoTCP:
		if p.dst.IsMulticast() {
			n.count.inc(dropMulticast)
			return
		}
		if l3 == nil || n.cfg.Without.TCP {
			n.count.inc(dropProtocol) // TCP in fragments: no kernel sends it; or none is carried
			return
		}
		n.tcp.ingress(p, l3)
	case p.proto == protoUDP:
		n.udp.ingress(p, segment, partial)
	case p.proto == protoICMPv4 && p.src.Is4(), p.proto == protoICMPv6 && p.src.Is6():
		n.icmp(p, partial)
	default:
		n.count.inc(dropProtocol)
	}
}

// fragment keeps a part of a datagram until the whole is there.
func (n *Network) fragment(p *packet) {
	payload := p.l4
	if len(p.rest) > 0 {
		payload = append(append(n.flat[:0], p.l4...), p.rest...)
		n.flat = payload
	}
	key := frag.Key{Src: p.src, Dst: p.dst, ID: p.frag.id}
	if p.src.Is4() {
		key.Proto = p.proto
	}
	whole, ok := n.frags.Add(n.start.Add(n.now), key, p.frag.offset, p.frag.more, payload)
	if !ok {
		return
	}
	q := *p
	q.l4, q.rest, q.frag = whole, nil, fragment{}
	// A datagram in fragments carries a complete checksum: it cannot be offloaded.
	n.transport(&q, nil, 0, false)
}

// spoofed reports whether a packet has a source that cannot be the container's.
// Addresses outside the plan can: those of networks that the container routes. Its
// loopback can only where it answers there.
func (n *Network) spoofed(p *packet) bool {
	f := n.cfg.Plan.Of(p.src)
	if p.src.IsUnspecified() {
		return p.proto != protoUDP && p.proto != protoICMPv6 // DHCP, neighbor discovery
	}
	if p.src.IsLoopback() {
		return !n.inbound.inlets[1].answers(p)
	}
	return !f.Enabled() || f.Ours(p.src) || p.src.IsMulticast() ||
		p.src.Is4In6() || p.src == n.cfg.Plan.RouterLinkLocal() || n.cfg.Policy.Serves(p.src) ||
		p.src == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// icmp handles an ICMP message of either version.
func (n *Network) icmp(p *packet, partial bool) {
	msg := p.l4
	if len(p.rest) > 0 {
		msg = append(append(n.flat[:0], p.l4...), p.rest...)
		n.flat = msg
	}
	if len(msg) < icmpHeaderLen || !partial && !icmpChecksumValid(p, msg) {
		n.count.inc(dropMalformed)
		return
	}
	if p.src.Is6() && !n.cfg.Without.NDP {
		if reply, from, to, ok := n.neighbor.ICMPv6(p.src, p.dst, p.ttl, msg); ok {
			n.emit.ip(ipHeader{src: from, dst: to, proto: protoICMPv6, ttl: neighbor.HopLimit}, reply)
			return
		}
	}
	switch kind := msg[0]; {
	case n.cfg.Without.ICMP && (p.src.Is4() && kind == echoRequest4 || p.src.Is6() && kind == echoRequest6):
		n.count.inc(dropProtocol)
	case p.src.Is4() && kind == echoRequest4 && !p.dst.IsMulticast(), p.src.Is6() && kind == echoRequest6 && !p.dst.IsMulticast():
		n.ping.echo(p, msg)
	case p.src.Is4() && kind == unreachKindv4, p.src.Is6() && kind == unreachKindv6:
		n.unreachable(msg)
	default:
		n.count.inc(dropProtocol)
	}
}

const (
	unreachKindv6 = 1 // RFC 4443 §3.1
)

// unreachable handles what the container says of a datagram that we delivered:
// if nobody listens at the port, the mapping goes, or the client is told.
func (n *Network) unreachable(msg []byte) {
	q, ok := parseQuoted(msg[icmpHeaderLen:])
	if !ok || q.proto != protoUDP || len(q.l4) < udpLen {
		return
	}
	port := uint8(icmpTypes[portUnreachable].v4[1])
	if q.dst.Is6() {
		port = icmpTypes[portUnreachable].v6[1]
	}
	if msg[1] != port {
		return
	}
	from := netip.AddrPortFrom(q.src, binary.BigEndian.Uint16(q.l4))
	container := netip.AddrPortFrom(q.dst, binary.BigEndian.Uint16(q.l4[2:]))
	if f := n.inbound.udp.flows[tuple{container, from}]; f != nil {
		f.refused()
		return
	}
	n.udp.refused(container)
}
