// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// IP protocol numbers that slipway carries
// (https://www.iana.org/assignments/protocol-numbers).
const (
	protoICMPv4 = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// IPv6 extension headers that may stand before the transport header (RFC 8200
// §4.1). Others, such as the authentication header, are not carried.
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extDestination = 60
)

const (
	ethernetLen      = header.EthernetMinimumSize
	ipv4MinLen       = header.IPv4MinimumSize
	ipv6Len          = header.IPv6MinimumSize
	udpLen           = header.UDPMinimumSize
	fragmentUnit     = 8 // bytes: fragment offsets count in these (RFC 791 §3.1)
	fragmentMask     = 0x1fff
	fragmentMore     = 0x2000
	maxExtensionHdrs = 8 // more of them have no use but to make us walk
)

// A packet is what the loop knows of the IP packet it is handling. Its slices
// lie in the receive buffer and are gone when the next frame is read.
type packet struct {
	src, dst netip.Addr
	proto    uint8
	ttl      uint8 // or hop limit
	tos      uint8 // or traffic class

	// l4 is the transport header and what follows, as far as it lies in the first
	// buffer; rest is what lies in the second.
	l4, rest []byte
	// header is the length of all before l4: the IP header with what extends it.
	header int

	frag fragment
}

// fragment says which part of a datagram a packet is; the zero fragment is a
// whole one.
type fragment struct {
	id     uint32
	offset int // bytes
	more   bool
	part   bool // the packet is not the whole datagram
}

// len returns the length in bytes of the transport header and payload.
func (p *packet) len() int { return len(p.l4) + len(p.rest) }

// parsePacket reads the IP header at the start of head, which holds the first
// bytes of the packet; rest holds the others. It reports false for what is
// malformed, or has its transport header beyond head.
func parsePacket(head, rest []byte) (packet, bool) {
	if len(head) == 0 {
		return packet{}, false
	}
	switch head[0] >> 4 {
	case 4:
		return parseIPv4(head, rest)
	case 6:
		return parseIPv6(head, rest)
	}
	return packet{}, false
}

func parseIPv4(head, rest []byte) (packet, bool) {
	if len(head) < ipv4MinLen {
		return packet{}, false
	}
	ihl := int(head[0]&0xf) * 4
	total := int(binary.BigEndian.Uint16(head[2:]))
	if ihl < ipv4MinLen || ihl > len(head) || total < ihl || total > len(head)+len(rest) {
		return packet{}, false
	}
	if !header.IPv4(head[:ihl]).IsChecksumValid() {
		return packet{}, false
	}
	fo := binary.BigEndian.Uint16(head[6:])
	p := packet{
		src:   netip.AddrFrom4([4]byte(head[12:16])),
		dst:   netip.AddrFrom4([4]byte(head[16:20])),
		proto: head[9],
		ttl:   head[8],
		tos:   head[1],
	}
	p.frag = fragment{
		id:     uint32(binary.BigEndian.Uint16(head[4:])),
		offset: int(fo&fragmentMask) * fragmentUnit,
		more:   fo&fragmentMore != 0,
	}
	p.frag.part = p.frag.offset != 0 || p.frag.more
	p.cut(head, rest, ihl, total)
	return p, true
}

func parseIPv6(head, rest []byte) (packet, bool) {
	if len(head) < ipv6Len {
		return packet{}, false
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(head[4:]))
	if total > len(head)+len(rest) {
		return packet{}, false
	}
	p := packet{
		src: netip.AddrFrom16([16]byte(head[8:24])),
		dst: netip.AddrFrom16([16]byte(head[24:40])),
		ttl: head[7],
		tos: head[0]<<4 | head[1]>>4,
	}
	next, at := head[6], ipv6Len
	for range maxExtensionHdrs {
		switch next {
		case extHopByHop, extRouting, extDestination:
			if at+2 > len(head) {
				return packet{}, false
			}
			next, at = head[at], at+(int(head[at+1])+1)*8
		case extFragment:
			if at+8 > len(head) || p.frag.part {
				return packet{}, false
			}
			fo := binary.BigEndian.Uint16(head[at+2:])
			p.frag = fragment{
				id:     binary.BigEndian.Uint32(head[at+4:]),
				offset: int(fo &^ 7),
				more:   fo&1 != 0,
			}
			p.frag.part = p.frag.offset != 0 || p.frag.more
			next, at = head[at], at+8
			if p.frag.part {
				// What follows is the fragmentable part, which only the whole
				// datagram tells apart.
				p.proto = next
				return p, p.cut(head, rest, at, total)
			}
		default:
			p.proto = next
			return p, p.cut(head, rest, at, total)
		}
	}
	return packet{}, false
}

// parseQuoted reads the packet that an ICMP error message quotes, of which it may
// have only the beginning.
func parseQuoted(b []byte) (packet, bool) {
	b = append([]byte(nil), b...)
	switch {
	case len(b) >= ipv4MinLen && b[0]>>4 == 4:
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		ip := header.IPv4(b)
		if ip.HeaderLength() < ipv4MinLen || int(ip.HeaderLength()) > len(b) {
			return packet{}, false
		}
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
	case len(b) >= ipv6Len && b[0]>>4 == 6:
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6Len))
	}
	return parsePacket(b, nil)
}

// cut sets l4 and rest to the bytes from start to end of the packet.
func (p *packet) cut(head, rest []byte, start, end int) bool {
	if start > end || start > len(head) {
		return false
	}
	p.l4 = head[start:min(end, len(head))]
	p.rest = rest[:max(0, end-len(head))]
	p.header = start
	return true
}
