// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// Where things are in an Ethernet frame, in bytes.
const (
	macLen   = 6
	sourceAt = macLen
	typeAt   = 2 * macLen
	etherLen = 2*macLen + 2
)

// In ARP for IPv4 over Ethernet (RFC 826).
const (
	arpLen      = 28
	arpSenderAt = 8
	arpAddrAt   = 14
)

// arpHead is how such a message begins: Ethernet, IPv4, and the lengths of both
// kinds of address.
var arpHead = []byte{0, 1, 8, 0, macLen, net.IPv4len}

// In IPv4 (RFC 791 §3.1), IPv6 (RFC 8200 §3) and the extension headers of that.
const (
	ip4Len      = 20
	ip4ProtoAt  = 9
	ip4SourceAt = 12
	ip4FragAt   = 6
	ip4Offset   = 0x1fff
	ip6Len      = 40
	ip6NextAt   = 6
	ip6SourceAt = 8
	extUnit     = 8
	fragmentLen = 8
	// maxExt bounds how many extension headers are looked through; there is one of
	// each kind (RFC 8200 §4.1).
	maxExt = 8
)

// Where the checksum is in the headers of TCP and UDP.
const (
	tcpSumAt = 16
	udpSumAt = 6
)

// Messages of ICMPv6: those of routers and neighbors (RFC 4861 §4), with the place of
// the address that they are about, and of multicast (RFC 2710 §3, RFC 3810 §5.2).
const (
	routerAdvert    = 134
	neighborSolicit = 135
	neighborAdvert  = 136
	redirect        = 137
	listenerReport  = 131
	listenerDone    = 132
	listenerReport2 = 143
	ndTargetAt      = 8
	ndMinLen        = ndTargetAt + 16
)

// admit reports whether a frame, from its Ethernet header on, may go from the station
// into the network: whether it is what it says it is.
func (s *Station) admit(h tap.VNetHdr, frame []byte) bool {
	if len(frame) < etherLen || !bytes.Equal(frame[sourceAt:sourceAt+macLen], s.MAC) {
		return false
	}
	body := frame[etherLen:]
	switch binary.BigEndian.Uint16(frame[typeAt:]) {
	case unix.ETH_P_ARP:
		return h.Flags&tap.VNetNeedsCSum == 0 && s.admitARP(body)
	case unix.ETH_P_IP:
		return s.admit4(h, body)
	case unix.ETH_P_IPV6:
		return s.admit6(h, body)
	}
	return false
}

// admitARP takes what speaks for the station itself. No sender's address at all is a
// probe (RFC 5227 §2.1.1).
func (s *Station) admitARP(b []byte) bool {
	if len(b) < arpLen || !bytes.HasPrefix(b, arpHead) || !bytes.Equal(b[arpSenderAt:arpSenderAt+macLen], s.MAC) {
		return false
	}
	sender := netip.AddrFrom4([4]byte(b[arpAddrAt : arpAddrAt+4]))
	return sender.IsUnspecified() || s.has(sender)
}

func (s *Station) admit4(h tap.VNetHdr, b []byte) bool {
	if len(b) < ip4Len || b[0]>>4 != 4 {
		return false
	}
	headLen := int(b[0]&0x0f) * 4
	if headLen < ip4Len || !s.has(netip.AddrFrom4([4]byte(b[ip4SourceAt:ip4SourceAt+4]))) {
		return false
	}
	if h.Flags&tap.VNetNeedsCSum == 0 {
		return true
	}
	return binary.BigEndian.Uint16(b[ip4FragAt:])&ip4Offset == 0 && sums(h, b[ip4ProtoAt], etherLen+headLen)
}

// admit6 takes what comes from the station, unless it would make others believe
// something of a third. No source is that of one who has no address yet.
func (s *Station) admit6(h tap.VNetHdr, b []byte) bool {
	if len(b) < ip6Len || b[0]>>4 != 6 {
		return false
	}
	source := netip.AddrFrom16([16]byte(b[ip6SourceAt : ip6SourceAt+16]))
	if !s.has(source) && !source.IsUnspecified() {
		return false
	}
	proto, at, fragment, ok := upper(b)
	if !ok {
		return false
	}
	if h.Flags&tap.VNetNeedsCSum != 0 && !sums(h, proto, etherLen+at) {
		return false
	}
	if proto != unix.IPPROTO_ICMPV6 {
		return !source.IsUnspecified()
	}
	// In fragments Neighbor Discovery could hide (RFC 6980).
	return !fragment && s.admitICMP6(b[at:], source.IsUnspecified())
}

func (s *Station) admitICMP6(b []byte, homeless bool) bool {
	if len(b) == 0 {
		return false
	}
	switch b[0] {
	case routerAdvert, redirect:
		return false
	case neighborAdvert:
		return !homeless && s.speaksOfItself(b)
	case neighborSolicit: // from nowhere it is a probe of the address (RFC 4862 §5.4.2)
		return !homeless || s.speaksOfItself(b)
	case listenerReport, listenerDone, listenerReport2:
		return true
	}
	return !homeless
}

// speaksOfItself reports whether a message about a neighbor is about the station.
func (s *Station) speaksOfItself(b []byte) bool {
	return len(b) >= ndMinLen && s.has(netip.AddrFrom16([16]byte(b[ndTargetAt:ndTargetAt+16])))
}

// upper looks through the extension headers of an IPv6 packet for the protocol above,
// and where its header is.
func upper(b []byte) (proto byte, at int, fragment, ok bool) {
	proto, at = b[ip6NextAt], ip6Len
	for range maxExt {
		switch proto {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(b) < at+extUnit {
				return 0, 0, false, false
			}
			proto, at = b[at], at+extUnit*(1+int(b[at+1]))
		case unix.IPPROTO_FRAGMENT:
			if len(b) < at+fragmentLen {
				return 0, 0, false, false
			}
			fragment = true
			proto, at = b[at], at+fragmentLen
		default:
			return proto, at, fragment, at <= len(b)
		}
	}
	return 0, 0, false, false
}

// sums reports whether the checksum that the receiver is to fill in is the one of the
// transport header at that place. Elsewhere it would change what was looked at.
func sums(h tap.VNetHdr, proto byte, at int) bool {
	offset := tcpSumAt
	switch proto {
	case unix.IPPROTO_TCP:
	case unix.IPPROTO_UDP:
		offset = udpSumAt
	default:
		return false
	}
	return int(h.CSumStart) == at && int(h.CSumOffset) == offset
}

// has reports whether the address is one of the station's.
func (s *Station) has(a netip.Addr) bool {
	for _, p := range s.Addrs {
		if p.Addr() == a {
			return true
		}
	}
	return a == s.linkLocal()
}

// linkLocal is the address that the station's kernel makes for itself (RFC 4862 §5.3),
// of the hardware address (RFC 4291, appendix A).
func (s *Station) linkLocal() netip.Addr {
	m := s.MAC
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
