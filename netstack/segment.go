// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"log/slog"

	"github.com/slipway-net/slipway/netstack/policy"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// refuse answers a packet that the policy denies, and counts it.
func (n *Network) refuse(p *packet, d policy.Decision) {
	n.count.refused[d.Reason].Add(1)
	if n.log.Enabled(n.ctx, slog.LevelDebug) {
		n.log.Debug("refused", "reason", d.Reason, "proto", p.proto, "from", p.src, "to", p.dst)
	}
	answer, other := n.cfg.Answers[d.Reason]
	if !other {
		answer = d.Answer()
	}
	if answer == policy.AnswerPortUnreachable && p.proto == protoTCP {
		n.sendReset(p)
		return
	}
	n.report(p, troubleFor(answer))
}

// sendReset answers a SYN with a RST (RFC 9293 §3.10.7.1).
func (n *Network) sendReset(p *packet) {
	var seg [header.TCPMinimumSize]byte
	in, out := header.TCP(p.l4), header.TCP(seg[:])
	out.Encode(&header.TCPFields{
		SrcPort:    in.DestinationPort(),
		DstPort:    in.SourcePort(),
		AckNum:     in.SequenceNumber() + 1,
		DataOffset: header.TCPMinimumSize,
		Flags:      header.TCPFlagRst | header.TCPFlagAck,
	})
	h := ipHeader{src: p.dst, dst: p.src, proto: protoTCP}
	sum := header.PseudoHeaderChecksum(protoTCP, tcpipAddr(h.src), tcpipAddr(h.dst), header.TCPMinimumSize)
	binary.BigEndian.PutUint16(seg[header.TCPChecksumOffset:], ^checksum.Checksum(seg[:], sum))
	n.emit.ip(h, seg[:])
}

// deliver gives the packet that was just read to gVisor: the buffers that it lies
// in change hands, so that nothing is copied.
func (n *Network) deliver(p *packet) {
	size := n.frameLen
	n.link.acks.passed(max(0, p.len()-int(header.TCP(p.l4).DataOffset())))
	head := n.rx.head
	n.rx.head = nil
	head.CapLength(min(size, headLen))
	head.TrimFront(ethernetLen)
	buf := buffer.MakeWithView(head)
	if rest := size - headLen; rest > 0 {
		if rest <= copyBreak || n.tcp.budget.scarce() {
			_ = buf.Append(buffer.NewViewWithData(n.rx.data.AsSlice()[:rest]))
		} else {
			n.rx.data.CapLength(rest)
			_ = buf.Append(n.rx.data)
			n.rx.data = nil
		}
	}
	n.give(buf, p)
}

// copyBreak is the payload up to which a packet is copied into a buffer of its
// own size (bytes): a small one would otherwise keep 64 KiB alive for as long as
// nobody reads it.
const copyBreak = 8 << 10

// inject gives a packet, from its IP header on, to gVisor.
func (n *Network) inject(l3 []byte) {
	if p, ok := parsePacket(l3, nil); ok {
		n.give(buffer.MakeWithData(l3), &p)
	}
}

// give gives the TCP packet p, which lies in buf, to gVisor: to its transport layer
// at once, where gVisor's network layer would find nothing else to do than we have
// done already. That layer makes an address of its own of each destination, looks
// through all of them for each packet, and costs more than TCP itself.
func (n *Network) give(buf buffer.Buffer, p *packet) {
	n.link.acks.hold(n.now)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buf})
	defer pkt.DecRef()
	proto, plain := header.IPv4ProtocolNumber, ipv4MinLen
	if p.src.Is6() {
		proto, plain = header.IPv6ProtocolNumber, ipv6Len
	}
	if n.link.transport == nil || p.header != plain || !p.dst.IsGlobalUnicast() {
		n.link.dispatcher.DeliverNetworkPacket(proto, pkt)
		return
	}
	offset := int(header.TCP(p.l4).DataOffset())
	if offset < header.TCPMinimumSize || offset > len(p.l4) {
		n.count.inc(dropMalformed)
		return
	}
	pkt.NetworkHeader().Consume(plain)
	pkt.Data().CapLength(p.len())
	pkt.TransportHeader().Consume(offset)
	pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber = proto, header.TCPProtocolNumber
	pkt.NICID = nicID
	pkt.RXChecksumValidated = n.link.Capabilities()&stack.CapabilityRXChecksumOffload != 0
	n.link.transport.DeliverTransportPacket(header.TCPProtocolNumber, pkt)
}
