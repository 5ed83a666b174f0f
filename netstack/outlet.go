// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An outlet is how the datagrams of one flow leave the host. It belongs to the loop.
type outlet struct {
	owner    outletOwner
	fd       int   // the socket
	gsoMax   int   // longest datagram that super-datagrams may be made of (bytes)
	ttl, tos uint8 // what they are sent with

	// shared means that other flows use the socket too: each message says what it is
	// sent with, and from which address of the host.
	shared  bool
	source  netip.Addr // the zero Addr leaves it to the kernel
	ifindex uint32     // the interface of a link-local source
}

// An outletOwner is the flow that an outlet is of.
type outletOwner interface {
	// drainErrors passes on the ICMP errors that are noted on the socket, and
	// reports whether there were any.
	drainErrors() bool
	// ends returns the two ends, as the container knows them, of a datagram to an
	// address of the host's side. They are zero where the container cannot be told of
	// what became of it.
	ends(dst netip.AddrPort) (container, remote netip.AddrPort)
}

// sendCmsgLen is the room for the control messages of a message that is sent: of
// IPv6 a source (CMSG_SPACE of 20 bytes), and of both a hop limit, a traffic class
// and a segment size.
const sendCmsgLen = 40 + 24 + 24 + 24

// cmsgs writes control messages (cmsg(3)) one behind another into b.
type cmsgs struct {
	b []byte
	n int // bytes so far
}

// add makes a message of size bytes and returns the room for those.
func (c *cmsgs) add(level, kind int32, size int) []byte {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&c.b[c.n]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	data := c.b[c.n+unix.CmsgLen(0):][:size]
	c.n += unix.CmsgSpace(size)
	return data
}

func (c *cmsgs) int(level, kind int32, v int) {
	binary.NativeEndian.PutUint32(c.add(level, kind, 4), uint32(v))
}

// segment says what the payload is to be cut into (bytes).
func (c *cmsgs) segment(size int) {
	binary.NativeEndian.PutUint16(c.add(unix.SOL_UDP, unix.UDP_SEGMENT, 2), uint16(size))
}

// source says what out says: where a message comes from, and what it is sent with.
func (c *cmsgs) source(out *outlet) {
	if out.source.Is4() {
		info := c.add(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		a := out.source.As4()
		binary.NativeEndian.PutUint32(info, 0)
		copy(info[4:], a[:]) // ipi_spec_dst
		clear(info[8:])
		c.int(unix.IPPROTO_IP, unix.IP_TTL, int(out.ttl))
		c.int(unix.IPPROTO_IP, unix.IP_TOS, int(ownClass(out.tos)))
		return
	}
	if out.source.IsValid() {
		info := c.add(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		a := out.source.As16()
		copy(info, a[:])
		binary.NativeEndian.PutUint32(info[16:], out.ifindex)
		c.int(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, int(out.ttl))
		c.int(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(ownClass(out.tos)))
	}
}

// ownClass is what of the container's traffic class is sent by the host: the ECN
// bits are the kernel's (RFC 6040 has us not make up any).
func ownClass(tos uint8) uint8 { return tos &^ 3 }
