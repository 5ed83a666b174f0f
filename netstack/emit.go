// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"

	"github.com/slipway-net/slipway/netstack/shape"
	"github.com/slipway-net/slipway/tap"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// defaultTTL is the hop limit of packets of our own (RFC 1700, "IP
	// parameters").
	defaultTTL = 64
	// maxHeaders is the room for the headers that emitter writes.
	maxHeaders = ethernetLen + ipv6Len + udpLen
)

// An ipHeader says what the IP header of a packet to the container holds.
type ipHeader struct {
	src, dst netip.Addr
	proto    uint8
	ttl, tos uint8
}

// An emitter writes packets of the loop's own to the container: UDP, ICMP, ARP.
// It belongs to the loop.
type emitter struct {
	link  *link
	buf   [maxHeaders]byte
	parts [1 + recvBatch][]byte
	ident uint16 // of the last IPv4 packet (RFC 6864)

	bucket *shape.Bucket // bounds what is written
}

// ip writes the packet whose transport header and payload is body, complete
// checksum included.
func (e *emitter) ip(h ipHeader, body []byte) {
	n := e.headers(h, len(body))
	if !e.bucket.Pass(n + len(body)) {
		e.link.count.inc(dropBandwidth)
		return
	}
	e.parts[0], e.parts[1] = e.buf[:n], body
	var vh tap.VNetHdr
	e.link.write(&vh, e.parts[:2])
}

// udp writes a datagram, or, where segment is not 0, all the datagrams of
// segment bytes (the last may be shorter) that payload is made of, as one
// super-frame. The kernel on the tap's other side fills in the checksum. The payload
// is in at most recvBatch pieces, all but the last of even length where there is no
// checksum offload.
func (e *emitter) udp(h ipHeader, srcPort, dstPort uint16, segment int, payload ...[]byte) {
	h.proto = protoUDP
	size := udpLen + total(payload)
	n := e.headers(h, size)
	if !e.bucket.Pass(n + size) {
		e.link.count.inc(dropBandwidth)
		return
	}
	u := header.UDP(e.buf[n : n+udpLen])
	sum := header.PseudoHeaderChecksum(protoUDP, tcpipAddr(h.src), tcpipAddr(h.dst), uint16(size))
	u.Encode(&header.UDPFields{SrcPort: srcPort, DstPort: dstPort, Length: uint16(size), Checksum: sum})
	var vh tap.VNetHdr
	if e.link.offload.Has(tap.OffloadCSum) {
		vh = tap.VNetHdr{Flags: tap.VNetNeedsCSum, CSumStart: uint16(n), CSumOffset: udpChecksumOffset}
		if segment > 0 && size-udpLen > segment {
			vh.GSOType, vh.GSOSize, vh.HdrLen = tap.VNetGSOUDPL4, uint16(segment), uint16(n+udpLen)
		}
	} else {
		for _, b := range payload {
			sum = checksum.Checksum(b, sum)
		}
		u.SetChecksum(0)
		if sum = ^checksum.Checksum(u, sum); sum == 0 {
			sum = 0xffff // RFC 768: zero would say that there is none
		}
		u.SetChecksum(sum)
	}
	e.parts[0] = e.buf[:n+udpLen]
	e.link.write(&vh, e.parts[:1+copy(e.parts[1:], payload)])
}

// total is the length of all parts.
func total(parts [][]byte) int {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	return n
}

// raw writes an Ethernet payload that is not IP.
func (e *emitter) raw(ethertype uint16, body []byte) {
	e.link.putEthernet(e.buf[:], ethertype)
	e.parts[0], e.parts[1] = e.buf[:ethernetLen], body
	var vh tap.VNetHdr
	e.link.write(&vh, e.parts[:2])
}

// headers writes the Ethernet and IP headers into buf and returns their length.
func (e *emitter) headers(h ipHeader, body int) int {
	if h.ttl == 0 {
		h.ttl = defaultTTL
	}
	if h.dst.Is4() {
		e.link.putEthernet(e.buf[:], uint16(header.IPv4ProtocolNumber))
		e.ident++
		putIPv4(e.buf[ethernetLen:], h, body, e.ident)
		e.broadcast(h.dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}))
		return ethernetLen + ipv4MinLen
	}
	e.link.putEthernet(e.buf[:], uint16(header.IPv6ProtocolNumber))
	putIPv6(e.buf[ethernetLen:], h, body)
	e.multicast(h.dst)
	return ethernetLen + ipv6Len
}

// broadcast makes the frame in buf go to every station.
func (e *emitter) broadcast(yes bool) {
	if yes {
		copy(e.buf[:], header.EthernetBroadcastAddress)
	}
}

// multicast makes the frame in buf go to an IPv6 group (RFC 2464 §7).
func (e *emitter) multicast(dst netip.Addr) {
	if dst.IsMulticast() {
		a := dst.As16()
		e.buf[0], e.buf[1] = 0x33, 0x33
		copy(e.buf[2:6], a[12:])
	}
}

// udpChecksumOffset is where the checksum lies in a UDP header (RFC 768).
const udpChecksumOffset = 6

func putIPv4(b []byte, h ipHeader, body int, ident uint16) {
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TOS:         h.tos,
		TotalLength: uint16(ipv4MinLen + body),
		ID:          ident,
		TTL:         h.ttl,
		Protocol:    h.proto,
		SrcAddr:     tcpipAddr(h.src),
		DstAddr:     tcpipAddr(h.dst),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
}

func putIPv6(b []byte, h ipHeader, body int) {
	b[0], b[1], b[2], b[3] = 0x60|h.tos>>4, h.tos<<4, 0, 0
	binary.BigEndian.PutUint16(b[4:], uint16(body))
	b[6], b[7] = h.proto, h.ttl
	src, dst := h.src.As16(), h.dst.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
}
