// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What sock_diag(7) speaks, of include/uapi/linux/inet_diag.h.
const (
	sizeofInetDiagReq = 56 // struct inet_diag_req_v2
	sizeofInetDiagMsg = 72 // struct inet_diag_msg
	inetDiagV6Only    = 11 // INET_DIAG_SKV6ONLY
)

// States of sockets, of include/net/tcp_states.h. A UDP socket that is connected is
// established, any other is closed.
const (
	stateEstablished   = 1
	stateClosed        = 7
	stateListen        = 10
	stateBoundInactive = 13 // bound, neither listening nor connected; Linux 6.8
)

// A diagQuery asks for sockets of a network namespace.
type diagQuery struct {
	family uint8  // unix.AF_INET or AF_INET6
	proto  uint8  // unix.IPPROTO_TCP or IPPROTO_UDP
	states uint32 // a bit for each
	port   uint16 // the local port; 0 for any
}

// A diagSocket is a socket as the kernel describes it.
type diagSocket struct {
	proto uint8
	state uint8
	// local is what the socket is bound to, without zone; an IPv6 socket at an
	// IPv4-mapped address has the IPv4 one.
	local netip.AddrPort
	// v6 tells an IPv6 socket, and v6Only one that takes no IPv4.
	v6, v6Only bool
	// device is the index of the interface that it is bound to, or 0.
	device     uint32
	uid, inode uint32
}

// encode makes the message that asks for a dump.
func (q diagQuery) encode(seq uint32) []byte {
	const size = unix.SizeofNlMsghdr + sizeofInetDiagReq
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, size)
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(b[8:], seq)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1] = q.family, q.proto
	binary.NativeEndian.PutUint32(r[4:], q.states)
	binary.BigEndian.PutUint16(r[8:], q.port)
	return b
}

// parseDiag calls each with the sockets in a datagram of answers to the query of
// this seq, and reports whether it was the last one.
func parseDiag(b []byte, seq uint32, proto uint8, each func(diagSocket)) (last bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int64(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > int64(len(b)) {
			return false, fmt.Errorf("socket dump: a message of %d bytes claims %d", len(b), size)
		}
		kind, body := binary.NativeEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr:size]
		ours := binary.NativeEndian.Uint32(b[8:]) == seq
		b = b[min(len(b), nlAlign(int(size))):]
		if !ours {
			continue
		}
		switch kind {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			if len(body) >= 4 {
				if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
					return true, unix.Errno(-code)
				}
			}
			return true, nil
		case unix.SOCK_DIAG_BY_FAMILY:
			if s, ok := parseDiagSocket(body, proto); ok {
				each(s)
			}
		}
	}
	return false, nil
}

// parseDiagSocket reads a struct inet_diag_msg and the attributes after it.
func parseDiagSocket(b []byte, proto uint8) (diagSocket, bool) {
	if len(b) < sizeofInetDiagMsg {
		return diagSocket{}, false
	}
	s := diagSocket{proto: proto, state: b[1]}
	port := binary.BigEndian.Uint16(b[4:])
	switch b[0] {
	case unix.AF_INET:
		s.local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[8:])), port)
	case unix.AF_INET6:
		s.v6 = true
		s.local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])).Unmap(), port)
	default:
		return diagSocket{}, false
	}
	s.device = binary.NativeEndian.Uint32(b[40:])
	s.uid = binary.NativeEndian.Uint32(b[64:])
	s.inode = binary.NativeEndian.Uint32(b[68:])
	for b = b[sizeofInetDiagMsg:]; len(b) >= unix.SizeofNlAttr; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return diagSocket{}, false
		}
		if binary.NativeEndian.Uint16(b[2:]) == inetDiagV6Only && size > unix.SizeofNlAttr {
			s.v6Only = b[unix.SizeofNlAttr] != 0
		}
		b = b[min(len(b), nlAlign(size)):]
	}
	return s, true
}

func nlAlign(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }
