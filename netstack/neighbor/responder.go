// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/slipway-net/slipway/tap"
)

// macLen is the length of an Ethernet hardware address, bytes.
const macLen = 6

// A Config says who we are on the link.
type Config struct {
	// Plan is the container's address plan. A family that is off gets no
	// answers.
	Plan tap.Plan
	// MAC is our hardware address.
	MAC net.HardwareAddr
	// MTU is what router advertisements announce, bytes; 0 announces none.
	MTU int
	// RDNSS is whether they announce the plan's resolver.
	RDNSS bool
	// Search is the domain search list that they announce. What is not a domain
	// name or does not fit into maxSearchLen bytes is left out.
	Search []string
	// Extra lists addresses that are ours besides those of the plan: those at which
	// something of the host is reached.
	Extra []netip.Addr
	// NoRA leaves router solicitations unanswered.
	NoRA bool
}

// A Responder answers for our addresses. It is safe for concurrent use. Make one
// with New.
type Responder struct {
	plan   tap.Plan
	mac    [macLen]byte
	ours   []netip.Addr
	router netip.Addr // our link-local address
	advert []byte     // nil for none; router advertisement, checksum zero
}

// New returns the responder that c describes.
func New(c Config) (*Responder, error) {
	if len(c.MAC) != macLen || c.MAC[0]&1 != 0 {
		return nil, fmt.Errorf("set up neighbor discovery: hardware address %q: want a unicast one of %d bytes", c.MAC, macLen)
	}
	if c.MTU != 0 && c.Plan.V6.Enabled() && c.MTU < minMTU6 {
		return nil, fmt.Errorf("set up neighbor discovery: MTU %d: IPv6 needs %d", c.MTU, minMTU6)
	}
	r := &Responder{plan: c.Plan, mac: [macLen]byte(c.MAC), router: c.Plan.RouterLinkLocal()}
	for _, f := range c.Plan.Families() {
		for _, a := range []netip.Addr{f.Gateway, f.DNS, f.NextHop} {
			if a.IsValid() {
				r.ours = append(r.ours, a)
			}
		}
	}
	if c.Plan.V6.Enabled() {
		r.ours = append(r.ours, r.router)
		if !c.NoRA {
			r.advert = advert(c)
		}
	}
	for _, a := range c.Extra {
		f := c.Plan.Of(a)
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || !f.Enabled() || a == f.Container || a.IsMulticast() || a.IsUnspecified() {
			return nil, fmt.Errorf("set up neighbor discovery: %s cannot be an address of ours", a)
		}
		if !slices.Contains(r.ours, a) {
			r.ours = append(r.ours, a)
		}
	}
	return r, nil
}

// Owns reports whether a is an address of ours.
func (r *Responder) Owns(a netip.Addr) bool { return slices.Contains(r.ours, a) }

// answersFor reports whether the Responder answers for a: it is ours, or, in a network
// that is the host's too, that of somebody who is reached through us.
func (r *Responder) answersFor(a netip.Addr) bool {
	f := r.plan.Of(a)
	return r.Owns(a) || f.Shared && a != f.Container && f.Prefix.Contains(a)
}
