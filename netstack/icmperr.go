// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/slipway-net/slipway/netstack/policy"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A trouble is why a packet of the container's went nowhere, in terms that both
// ICMP versions can say.
type trouble uint8

const (
	troubleNone trouble = iota
	netUnreachable
	hostUnreachable
	adminProhibited
	portUnreachable
	ttlExceeded
)

// icmpTypes are type and code of each trouble: RFC 792 and RFC 1812 §5.2.7.1,
// RFC 4443 §3.1 and §3.3.
var icmpTypes = [...]struct{ v4, v6 [2]uint8 }{
	netUnreachable:  {v4: [2]uint8{3, 0}, v6: [2]uint8{1, 0}},
	hostUnreachable: {v4: [2]uint8{3, 1}, v6: [2]uint8{1, 3}},
	adminProhibited: {v4: [2]uint8{3, 13}, v6: [2]uint8{1, 1}},
	portUnreachable: {v4: [2]uint8{3, 3}, v6: [2]uint8{1, 4}},
	ttlExceeded:     {v4: [2]uint8{11, 0}, v6: [2]uint8{3, 0}},
}

// troubleOf says which trouble the host's kernel had with a destination. It is
// chosen so that the container's kernel makes the same error of it again
// (icmp_err_convert in net/ipv4/icmp.c, tab_unreach in net/ipv6/icmp.c).
func troubleOf(err error) trouble {
	errno, _ := errors.AsType[unix.Errno](err)
	switch errno {
	case unix.ECONNREFUSED:
		return portUnreachable
	case unix.ENETUNREACH, unix.ENETDOWN, unix.EADDRNOTAVAIL, unix.EAFNOSUPPORT:
		return netUnreachable
	case unix.EHOSTUNREACH, unix.EHOSTDOWN:
		return hostUnreachable
	case unix.EACCES, unix.EPERM:
		return adminProhibited
	}
	return troubleNone
}

// troubleOfICMP says which trouble an ICMP error of the host's side is about.
func troubleOfICMP(kind, code uint8, v6 bool) trouble {
	for t, types := range icmpTypes {
		of := types.v4
		if v6 {
			of = types.v6
		}
		if of == [2]uint8{kind, code} {
			return trouble(t)
		}
	}
	return troubleNone
}

// troubleFor says how the policy's refusal looks.
func troubleFor(a policy.Answer) trouble {
	switch a {
	case policy.AnswerNetUnreachable:
		return netUnreachable
	case policy.AnswerHostUnreachable:
		return hostUnreachable
	case policy.AnswerAdminProhibited:
		return adminProhibited
	case policy.AnswerPortUnreachable:
		return portUnreachable
	}
	return troubleNone
}

// An icmpError is an error message about a packet of the container's.
type icmpError struct {
	kind, code uint8
	info       uint32     // the second word, such as the MTU in its low half
	from       netip.Addr // who reports: the host or router
	quote      ipHeader   // the header of the packet in question
	body       []byte     // … its transport header and what follows
	size       int        // … the length of all that
}

const (
	// icmpHeaderLen is the length of the header of an ICMP message of any kind.
	icmpHeaderLen = 8
	// quoteMax is how much of the packet an error message has of it, headers
	// included. RFC 1812 §4.3.2.3 would allow 548 bytes, but no kernel needs more
	// than the transport header.
	quoteMax = 128
)

// report tells the container about trouble with the packet p: the gateway, as
// its router, is where the message comes from.
func (n *Network) report(p *packet, t trouble) {
	if t == troubleNone || p.src.IsUnspecified() || p.dst.IsMulticast() {
		return
	}
	types := icmpTypes[t]
	e := icmpError{
		kind: types.v4[0], code: types.v4[1],
		from:  n.cfg.Plan.Of(p.src).Gateway,
		quote: ipHeader{src: p.src, dst: p.dst, proto: p.proto, ttl: p.ttl, tos: p.tos},
		body:  p.l4,
		size:  p.len(),
	}
	if p.src.Is6() {
		e.kind, e.code = types.v6[0], types.v6[1]
	}
	if t == portUnreachable {
		e.from = p.dst // a port is known only to the host that it belongs to
	}
	n.sendICMPError(e)
}

// sendICMPError writes an error message to the container.
func (n *Network) sendICMPError(e icmpError) {
	var buf [icmpHeaderLen + quoteMax]byte
	buf[0], buf[1] = e.kind, e.code
	binary.BigEndian.PutUint32(buf[4:], e.info)
	q := buf[icmpHeaderLen:]
	quoted := 0
	if e.quote.src.Is4() {
		putIPv4(q, e.quote, e.size, 0)
		quoted = ipv4MinLen
	} else {
		putIPv6(q, e.quote, e.size)
		quoted = ipv6Len
	}
	quoted += copy(q[quoted:], e.body)
	h := ipHeader{src: e.from, dst: e.quote.src, proto: protoICMPv4}
	if h.dst.Is6() {
		h.proto = protoICMPv6
	}
	msg := buf[:icmpHeaderLen+quoted]
	putICMPChecksum(h, msg)
	n.emit.ip(h, msg)
}

// putICMPChecksum fills in the checksum of an ICMP message with the IP header h.
func putICMPChecksum(h ipHeader, msg []byte) {
	msg[2], msg[3] = 0, 0
	var sum uint16
	if h.dst.Is6() {
		sum = header.PseudoHeaderChecksum(protoICMPv6, tcpipAddr(h.src), tcpipAddr(h.dst), uint16(len(msg)))
	}
	binary.BigEndian.PutUint16(msg[2:], ^checksum.Checksum(msg, sum))
}
