// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/slipway-net/slipway/tap"
)

// Networks that a plan has where the configuration names none.
const (
	bits4 = 24
	bits6 = 64
)

// autoTries bounds how many networks are looked at for a free one.
const autoTries = 64

// A Lease is what a plugin for addresses has given for one family.
type Lease struct {
	Address netip.Prefix
	Gateway netip.Addr // may be none
}

// Plan returns the addresses of the container's network: those of the leases, which a
// plugin for addresses gave, or without such those of the configuration. Taken are the
// networks of the place that flows leave from, from which "auto" keeps away: what the
// container has itself it does not reach there. The error is a *types.Error.
func (c *Conf) Plan(leases []Lease, taken []netip.Prefix) (tap.Plan, error) {
	var cidr4, cidr6 netip.Prefix
	var g tap.Given
	if c.IPAM.Type != "" {
		for _, l := range leases {
			cidr := &cidr4
			if l.Address.Addr().Is6() {
				cidr = &cidr6
			}
			if cidr.IsValid() {
				return tap.Plan{}, invalid("ipam %s: it gave a second address of one family, %s: have it give one", c.IPAM.Type, l.Address)
			}
			*cidr = l.Address.Masked()
			g.Container = append(g.Container, l.Address.Addr())
			g.Gateway = appendValid(g.Gateway, l.Gateway)
		}
	} else {
		var err error
		if cidr4, err = network(c.V4(), "subnet", c.Subnet, c.Address, tap.DefaultCIDR4, bits4, taken); err != nil {
			return tap.Plan{}, invalid("%v", err)
		}
		if cidr6, err = network(c.V6(), "subnet6", c.Subnet6, c.Address6, tap.DefaultCIDR6, bits6, taken); err != nil {
			return tap.Plan{}, invalid("%v", err)
		}
		g.Container = appendValid(g.Container, c.Address, c.Address6)
		g.Gateway = appendValid(g.Gateway, c.Gateway, c.Gateway6)
	}
	g.DNS = appendValid(g.DNS, c.DNSAddr, c.DNSAddr6)
	plan, err := tap.PlanWith(cidr4, cidr6, g)
	if err != nil {
		return tap.Plan{}, invalid("%v", err)
	}
	return plan, nil
}

// PlanHere is Plan with the networks of the place that we are in taken, unless a broker
// starts the helper somewhere else, and those of others.
func (c *Conf) PlanHere(leases []Lease, others ...netip.Prefix) (tap.Plan, error) {
	if c.ByBroker() {
		return c.Plan(leases, others)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return tap.Plan{}, fmt.Errorf("list our addresses: %w", err)
	}
	taken := others
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if p, err := netip.ParsePrefix(n.String()); err == nil {
				taken = append(taken, p.Masked())
			}
		}
	}
	return c.Plan(leases, taken)
}

// network returns the network of a family that the configuration names, that an
// address of it is in, or that is free; none where the family is off.
func network(on bool, key, text string, address netip.Addr, normal string, bits int, taken []netip.Prefix) (netip.Prefix, error) {
	if !on {
		if address.IsValid() {
			return netip.Prefix{}, fmt.Errorf("address %s: its family is switched off", address)
		}
		return netip.Prefix{}, nil
	}
	if text != "" && text != Auto {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return p, fmt.Errorf("%s %q: want a network such as %s, or %s", key, text, normal, Auto)
		}
		return p, nil
	}
	first := netip.MustParsePrefix(normal)
	if address.IsValid() && !first.Contains(address) {
		return address.Prefix(bits)
	}
	if address.IsValid() {
		return first, nil
	}
	p := first
	for range autoTries {
		if !overlaps(p, taken) {
			return p, nil
		}
		p = next(p)
	}
	return first, nil
}

// next returns the network behind p. Its last bits but one are counted up, so that of
// fd00::/64 the next one is fd00:0:0:1::/64.
func next(p netip.Prefix) netip.Prefix {
	b := p.Addr().AsSlice()
	for i := p.Bits()/8 - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			break
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

func overlaps(p netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if p.Overlaps(t) {
			return true
		}
	}
	return false
}

func appendValid(to []netip.Addr, as ...netip.Addr) []netip.Addr {
	for _, a := range as {
		if a.IsValid() {
			to = append(to, a)
		}
	}
	return to
}

// RouteList returns the networks that lead to the gateways of the plan: those that the
// configuration names, else those that a plugin for addresses gave, and everything
// unless that is switched off. Empty means none. The error is a *types.Error.
func (c *Conf) RouteList(plan tap.Plan, leased []Route) ([]netip.Prefix, error) {
	routes := c.Routes
	if routes == nil {
		routes = leased
	}
	var list []netip.Prefix
	for _, r := range routes {
		if !r.Dst.IsValid() {
			return nil, invalid("routes: want dst, a network such as 10.0.0.0/8, in each")
		}
		f := plan.Of(r.Dst.Addr())
		if !f.Enabled() {
			continue // of a family that the container has not
		}
		if gw := cmp.Or(r.GW, f.Gateway); gw != f.Gateway {
			return nil, invalid("routes: %s via %s: the only gateway is %s: leave gw out", r.Dst, gw, f.Gateway)
		}
		list = append(list, r.Dst.Masked())
	}
	if c.Default != nil && !*c.Default || c.Default == nil && len(leased) > 0 && c.Routes == nil {
		return list, nil
	}
	for _, f := range plan.Families() {
		all, err := f.Container.Prefix(0)
		if err == nil && !slices.Contains(list, all) {
			list = append(list, all)
		}
	}
	return list, nil
}
