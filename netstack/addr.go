// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The conversions between gVisor's addresses and the rest of the project's: no
// other file makes one from the other.

func tcpipAddr(a netip.Addr) tcpip.Address {
	if a.Is4() {
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

func netipAddr(a tcpip.Address) netip.Addr {
	if a.Len() == 4 {
		return netip.AddrFrom4(a.As4())
	}
	return netip.AddrFrom16(a.As16())
}

// A tuple names a flow by its two ends as the container sees them. In gVisor's
// terms the address that the container dialed is the local one.
type tuple struct {
	container, remote netip.AddrPort
}

func tupleOf(id stack.TransportEndpointID) tuple {
	return tuple{
		container: netip.AddrPortFrom(netipAddr(id.RemoteAddress), id.RemotePort),
		remote:    netip.AddrPortFrom(netipAddr(id.LocalAddress), id.LocalPort),
	}
}
