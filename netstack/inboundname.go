// SPDX-License-Identifier: Apache-2.0

package netstack

import "net/netip"

const (
	// firstGatewayPort is the lowest port of the gateway that is made up for a client:
	// those below mean something.
	firstGatewayPort = 1024
	// maxPortTries is how many are tried. They are taken in turn, so that one is free
	// nearly always.
	maxPortTries = 64
)

// name says as whom the container sees a client: as itself, or, where it cannot be that,
// as the gateway, at the client's port if that is free. The zero AddrPort means that there
// is no name left.
func (t *inboundTable) name(client, container netip.AddrPort, free func(netip.AddrPort) bool) netip.AddrPort {
	if t.n.showable(client.Addr(), container.Addr()) && free(client) {
		return client
	}
	gateway := t.n.cfg.Plan.Of(container.Addr()).Gateway
	as := netip.AddrPortFrom(gateway, client.Port())
	for range maxPortTries {
		if gateway.IsValid() && free(as) {
			return as
		}
		if t.port++; t.port < firstGatewayPort {
			t.port = firstGatewayPort
		}
		as = netip.AddrPortFrom(gateway, t.port)
	}
	return netip.AddrPort{}
}

// showable reports whether a client's address can be the source of a packet to that
// address of the container's, and the answer comes back to us: it is of its family,
// is nothing to the container's kernel but a stranger, and beyond the gateway, or a
// neighbor for whom we answer.
func (n *Network) showable(client, container netip.Addr) bool {
	f := n.cfg.Plan.Of(container)
	return client.Is4() == container.Is4() && client != container && !client.IsLoopback() &&
		!client.IsUnspecified() && !client.IsMulticast() && !client.IsLinkLocalUnicast() &&
		(f.Shared && client != f.Container || !f.Prefix.Contains(client)) && !n.cfg.Policy.Serves(client)
}
