// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"encoding/binary"
	"net/netip"
)

// ICMPv6 types (RFC 4861 §4).
const (
	typeRouterSolicit   = 133
	typeRouterAdvert    = 134
	typeNeighborSolicit = 135
	typeNeighborAdvert  = 136
)

// Neighbor Discovery messages: lengths and where fields are, bytes (RFC 4861 §4).
const (
	checksumAt      = 2
	routerSolicit   = 8  // before the options
	neighborMessage = 24 // solicitation and advertisement, before the options
	targetAt        = 8
	addrLen         = 16
	optionUnit      = 8 // what option lengths count in
)

// Options (RFC 4861 §4.6).
const (
	optSourceMAC = 1
	optTargetMAC = 2
	macOptionLen = 8
)

// Flags of a neighbor advertisement (RFC 4861 §4.4).
const (
	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20
)

// HopLimit is the hop limit that replies and advertisements must be sent with, and
// that solicitations must come with: it shows that no router forwarded them (RFC
// 4861 §3.1).
const HopLimit = 255

// AllNodes returns ff02::1, where unsolicited advertisements go.
func AllNodes() netip.Addr { return netip.IPv6LinkLocalAllNodes() }

// ICMPv6 answers an ICMPv6 message that came in a packet with these addresses and
// hop limit. The reply is to be sent from from to to with HopLimit. Without a
// reply, and for all that is no neighbor or router solicitation, ok is false.
func (r *Responder) ICMPv6(src, dst netip.Addr, hopLimit uint8, msg []byte) (reply []byte, from, to netip.Addr, ok bool) {
	if !r.plan.V6.Enabled() || hopLimit != HopLimit || len(msg) < routerSolicit || !src.Is6() || !dst.Is6() {
		return nil, from, to, false
	}
	const codeAt = 1
	if msg[codeAt] != 0 || src.IsMulticast() || r.Owns(src) || checksum(src, dst, msg) != 0 {
		return nil, from, to, false
	}
	to = src
	if src.IsUnspecified() {
		to = AllNodes()
	}
	switch msg[0] {
	case typeNeighborSolicit:
		if reply, from, ok = r.neighborAdvert(src, dst, to, msg); ok {
			return reply, from, to, true
		}
	case typeRouterSolicit:
		if r.advert == nil {
			break
		}
		if hasMAC, ok := sourceMAC(msg[routerSolicit:]); ok && !(hasMAC && src.IsUnspecified()) {
			return r.routerAdvert(to), r.router, to, true
		}
	}
	return nil, netip.Addr{}, netip.Addr{}, false
}

// RouterAdvert returns an unsolicited router advertisement. It is to be sent from
// the plan's router link-local address to AllNodes with HopLimit.
func (r *Responder) RouterAdvert() []byte {
	if r.advert == nil {
		return nil
	}
	return r.routerAdvert(AllNodes())
}

// neighborAdvert answers a neighbor solicitation for an address of ours (RFC 4861
// §7.2.4).
func (r *Responder) neighborAdvert(src, dst, to netip.Addr, msg []byte) (reply []byte, from netip.Addr, ok bool) {
	if len(msg) < neighborMessage {
		return nil, from, false
	}
	target := netip.AddrFrom16([addrLen]byte(msg[targetAt:]))
	if !r.answersFor(target) || dst != target && dst != solicitedNode(target) {
		return nil, from, false
	}
	hasMAC, ok := sourceMAC(msg[neighborMessage:])
	flags := byte(flagRouter | flagOverride)
	if src.IsUnspecified() {
		// Duplicate address detection of an address that we have.
		if hasMAC || dst == target {
			return nil, from, false
		}
	} else {
		flags |= flagSolicited
	}
	if !ok {
		return nil, from, false
	}
	b := make([]byte, neighborMessage, neighborMessage+macOptionLen)
	b[0] = typeNeighborAdvert
	b[4] = flags
	copy(b[targetAt:], msg[targetAt:neighborMessage])
	b = r.appendMAC(b, optTargetMAC)
	sum(target, to, b)
	return b, target, true
}

// routerAdvert returns the advertisement with the checksum for the destination.
func (r *Responder) routerAdvert(to netip.Addr) []byte {
	b := append([]byte(nil), r.advert...)
	sum(r.router, to, b)
	return b
}

func (r *Responder) appendMAC(b []byte, option byte) []byte {
	return append(append(b, option, macOptionLen/optionUnit), r.mac[:]...)
}

// sourceMAC reports whether there is a source link-layer address among the
// options, and whether all of them are well-formed.
func sourceMAC(options []byte) (has, ok bool) {
	for len(options) > 0 {
		if len(options) < optionUnit {
			return has, false
		}
		n := int(options[1]) * optionUnit
		if n == 0 || n > len(options) {
			return has, false
		}
		has = has || options[0] == optSourceMAC
		options = options[n:]
	}
	return has, true
}

// solicitedNode returns the multicast address at which a is asked for (RFC 4291
// §2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := [addrLen]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff}
	low := a.As16()
	copy(b[13:], low[13:])
	return netip.AddrFrom16(b)
}

// sum fills in the checksum of msg, whose field must be zero.
func sum(src, dst netip.Addr, msg []byte) {
	binary.BigEndian.PutUint16(msg[checksumAt:], checksum(src, dst, msg))
}

// checksum returns the complement of the sum of msg and its pseudo-header (RFC
// 8200 §8.1): what belongs into a zero field, and zero for a message whose field
// is right.
func checksum(src, dst netip.Addr, msg []byte) uint16 {
	const nextHeader = 58 // ICMPv6
	s, d := src.As16(), dst.As16()
	total := uint32(nextHeader) + uint32(len(msg)>>16) + uint32(len(msg)&0xffff)
	for _, b := range [][]byte{s[:], d[:], msg} {
		for ; len(b) > 1; b = b[2:] {
			total += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			total += uint32(b[0]) << 8
		}
	}
	for total>>16 != 0 {
		total = total&0xffff + total>>16
	}
	return ^uint16(total)
}
