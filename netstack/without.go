// SPDX-License-Identifier: Apache-2.0

package netstack

import "net/netip"

// Without lists protocols that a Network does not carry, and services of its own that
// it does not offer: what comes for them is dropped without an answer. The zero Without
// leaves nothing out.
type Without struct {
	// TCP, UDP and ICMP are what is carried; of ICMP, the echo. UDP leaves the name
	// server out, too, but not DHCP.
	TCP, UDP, ICMP bool
	// DHCP and DHCPv6 are the servers of addresses.
	DHCP, DHCPv6 bool
	// NDP is all answers to neighbor discovery, those to router solicitations too, and RA
	// router advertisements, asked for or not.
	NDP, RA bool
}

// datagram reports whether a datagram between these ports is for nobody.
func (w Without) datagram(src, dst netip.AddrPort) bool {
	switch {
	case dst.Port() == dhcp4ServerPort && src.Port() == dhcp4ClientPort && dst.Addr().Is4():
		return w.DHCP
	case dst.Port() == dhcp6ServerPort && src.Port() == dhcp6ClientPort && dst.Addr().Is6():
		return w.DHCPv6
	}
	return w.UDP
}
