// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"encoding/binary"
	"net/netip"
)

// An ARP packet for IPv4 on Ethernet: its length and where its fields are, bytes
// (RFC 826).
const (
	arpLen       = 28
	arpOp        = 6
	arpSenderMAC = 8
	arpSenderIP  = 14
	arpTargetMAC = 18
	arpTargetIP  = 24
)

// Values in an ARP packet.
const (
	arpEthernet = 1
	arpIPv4     = 0x0800
	arpIPLen    = 4
	arpRequest  = 1
	arpReply    = 2
)

// ARP answers an ARP packet, the payload of an Ethernet frame, which may be
// padded. The reply is the payload of a frame from our hardware address to that
// of the request's frame. Without a reply ok is false.
func (r *Responder) ARP(frame []byte) (reply []byte, ok bool) {
	if len(frame) < arpLen || !r.plan.V4.Enabled() {
		return nil, false
	}
	p := frame[:arpLen]
	if binary.BigEndian.Uint16(p) != arpEthernet || binary.BigEndian.Uint16(p[2:]) != arpIPv4 ||
		p[4] != macLen || p[5] != arpIPLen || binary.BigEndian.Uint16(p[arpOp:]) != arpRequest {
		return nil, false
	}
	sender := netip.AddrFrom4([4]byte(p[arpSenderIP:]))
	target := netip.AddrFrom4([4]byte(p[arpTargetIP:]))
	// A sender with an address of ours announces it or errs; answering would
	// only tell it that both of us have it, and it would go on.
	if !r.answersFor(target) || r.Owns(sender) || p[arpSenderMAC]&1 != 0 {
		return nil, false
	}
	reply = make([]byte, arpLen)
	copy(reply, p[:arpOp])
	binary.BigEndian.PutUint16(reply[arpOp:], arpReply)
	copy(reply[arpSenderMAC:], r.mac[:])
	copy(reply[arpSenderIP:], p[arpTargetIP:])
	copy(reply[arpTargetMAC:], p[arpSenderMAC:arpTargetMAC])
	return reply, true
}
