// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A socketError is an entry of a socket's error queue (IP_RECVERR of ip(7),
// struct sock_extended_err of include/uapi/linux/errqueue.h).
type socketError struct {
	kind, code uint8          // of the ICMP message; both 0 where there was none
	info       uint32         // the second word for the ICMP message to the container
	offender   netip.Addr     // who sent the ICMP message
	dst        netip.AddrPort // where the datagram went to
	local      netip.Addr     // where it came from, on IPv4 sockets that ask (setPacketInfo)
	body       []byte         // the datagram's payload, as much as came back
}

const (
	extendedErrLen  = 16 // sizeof(struct sock_extended_err)
	originICMP      = unix.SO_EE_ORIGIN_ICMP
	originICMPv6    = unix.SO_EE_ORIGIN_ICMP6
	unreachKindv4   = 3 // RFC 792
	fragNeededCode  = 4 // RFC 1191
	packetTooBigv6  = 2 // RFC 4443 §3.2
	errorBodyMax    = 64
	sockaddrFamilyN = 2
)

// readError takes one entry off the error queue of fd, whose family is that of
// like. It reports false when there is none.
func readError(fd int, like netip.Addr) (socketError, bool) {
	var body [errorBodyMax]byte
	var oob [errorCmsgLen]byte
	n, oobn, _, from, err := unix.Recvmsg(fd, body[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return socketError{}, false
	}
	e := socketError{offender: like, body: body[:max(0, n)]}
	switch sa := from.(type) {
	case *unix.SockaddrInet4:
		e.dst = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		e.dst = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	e.offender = e.dst.Addr()
	b := oob[:oobn]
	for len(b) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			break
		}
		if (h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR) ||
			(h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR) {
			e.parse(data)
		}
		if h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo {
			e.local = netip.AddrFrom4([4]byte(data[8:])) // ipi_addr, which the ICMP message was for
		}
		b = rest
	}
	return e, true
}

// parse reads a struct sock_extended_err and the offender's address behind it.
func (e *socketError) parse(b []byte) {
	if len(b) < extendedErrLen {
		return
	}
	origin := b[4]
	if origin != originICMP && origin != originICMPv6 {
		return
	}
	e.kind, e.code = b[5], b[6]
	// The kernel puts the path MTU where it was in the ICMP message of its version.
	if info := binary.NativeEndian.Uint32(b[8:]); (origin == originICMP && e.kind == unreachKindv4 && e.code == fragNeededCode) ||
		(origin == originICMPv6 && e.kind == packetTooBigv6) {
		e.info = info
	}
	sa := b[extendedErrLen:]
	if len(sa) < sockaddrFamilyN {
		return
	}
	switch family := binary.NativeEndian.Uint16(sa); {
	case family == unix.AF_INET && len(sa) >= unix.SizeofSockaddrInet4:
		e.offender = netip.AddrFrom4([4]byte(sa[4:8]))
	case family == unix.AF_INET6 && len(sa) >= unix.SizeofSockaddrInet6:
		e.offender = netip.AddrFrom16([16]byte(sa[8:24])).Unmap()
	}
}
