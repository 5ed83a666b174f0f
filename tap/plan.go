// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Host numbers of the plan's addresses inside their network. They are those of
// slirp4netns (slirp4netns(1), DESCRIPTION), which users and scripts know.
const (
	gatewayHost    = 2
	dnsHost        = 3
	leaseFirstHost = 15
	leaseLastHost  = 30
	container4Host = 100
	container6Host = 0x100 // written ::100
)

// Default networks of the plan.
const (
	DefaultCIDR4 = "10.0.2.0/24"
	DefaultCIDR6 = "fd00::/64"
)

// Bounds of the plan's networks: the IPv4 one must have room for host number
// 100, the IPv6 one must be a /64 so that SLAAC works (RFC 4862 §5.5.3). Where the
// container's address is given, room for three addresses is enough, and one that is no
// host's on either side in IPv4.
const (
	maxPrefixLen4 = 25
	prefixLen6    = 64
	maxGivenLen4  = 29
	maxGivenLen6  = 125
)

// A Family is one address family's part of a Plan. The zero Family means that
// the family is switched off.
type Family struct {
	Prefix    netip.Prefix // the network, masked
	Gateway   netip.Addr   // our router address, host number 2
	DNS       netip.Addr   // our resolver address, host number 3
	Container netip.Addr   // the container's address, host number 100
	// LeaseFirst and LeaseLast bound the addresses that DHCP hands out besides
	// Container, both included.
	LeaseFirst, LeaseLast netip.Addr
	// Shared means that the network is one of the host's own, which the container is
	// shown as its own: the other addresses in it are others', Gateway is that of a
	// router there, and all of them are dialed like any address. Gateway and DNS may
	// then lie outside of Prefix, and DNS may be the zero Addr, for none.
	Shared bool
	// NextHop is the address that the routes of the container lead through, where that
	// is not Gateway: a router's link-local one. The zero Addr means Gateway.
	NextHop netip.Addr
}

// Enabled reports whether the family is part of the plan.
func (f Family) Enabled() bool { return f.Prefix.IsValid() }

// Ours reports whether a is one of the addresses at which slipway itself
// answers: the gateway, by either of its addresses, or the resolver.
func (f Family) Ours(a netip.Addr) bool {
	return f.Enabled() && a.IsValid() && (a == f.Gateway || a == f.DNS || a == f.NextHop)
}

// Via returns the address that the container's routes lead through.
func (f Family) Via() netip.Addr {
	if f.NextHop.IsValid() {
		return f.NextHop
	}
	return f.Gateway
}

// A Plan says which addresses the container's network has. It is a plain value,
// safe to copy; the zero Plan has no family and so no network.
type Plan struct {
	V4, V6 Family
}

// NewPlan derives the plan from the networks, which must be network addresses
// (no host bits set): an IPv4 network of at most 25 bits and an IPv6 /64. An
// invalid (zero) prefix switches that family off; at least one must be on.
func NewPlan(cidr4, cidr6 netip.Prefix) (Plan, error) {
	return PlanWith(cidr4, cidr6, Given{})
}

// Given are addresses of a plan that somebody else has chosen, at most one of each
// family in each list, inside of the family's network. The zero Given has none.
type Given struct {
	Container, Gateway, DNS []netip.Addr
}

// PlanWith is NewPlan with some addresses given. The others get their usual host
// numbers, or the lowest that are free where one is taken or outside of the network.
// Of a family whose container's address is given the network may be as small as an
// IPv4 /29 or an IPv6 /125.
func PlanWith(cidr4, cidr6 netip.Prefix, g Given) (Plan, error) {
	var p Plan
	if !cidr4.IsValid() && !cidr6.IsValid() {
		return Plan{}, fmt.Errorf("address plan: give an IPv4 or an IPv6 network")
	}
	if cidr4.IsValid() {
		most := maxPrefixLen4
		if given(g.Container, cidr4) {
			most = maxGivenLen4
		}
		if !cidr4.Addr().Is4() || cidr4.Bits() < 1 || cidr4.Bits() > most {
			return Plan{}, fmt.Errorf("address plan: %s: want an IPv4 network with a prefix length of 1 to %d", cidr4, most)
		}
		if !usable(cidr4) {
			return Plan{}, fmt.Errorf("address plan: %s: want a private or public unicast network, such as %s", cidr4, DefaultCIDR4)
		}
	}
	if cidr6.IsValid() {
		least, most := prefixLen6, prefixLen6
		if given(g.Container, cidr6) {
			least, most = 1, maxGivenLen6
		}
		if !cidr6.Addr().Is6() || cidr6.Addr().Is4In6() || cidr6.Bits() < least || cidr6.Bits() > most {
			return Plan{}, fmt.Errorf("address plan: %s: want an IPv6 network with a prefix length of %d", cidr6, prefixLen6)
		}
		if !usable(cidr6) {
			return Plan{}, fmt.Errorf("address plan: %s: want a unique local or global network, such as %s", cidr6, DefaultCIDR6)
		}
	}
	for _, c := range []netip.Prefix{cidr4, cidr6} {
		if c.IsValid() && c != c.Masked() {
			return Plan{}, fmt.Errorf("address plan: %s has host bits set: want the network address %s", c, c.Masked())
		}
	}
	var err error
	if cidr4.IsValid() {
		if p.V4, err = newFamily(cidr4, container4Host, g); err != nil {
			return Plan{}, err
		}
	}
	if cidr6.IsValid() {
		if p.V6, err = newFamily(cidr6, container6Host, g); err != nil {
			return Plan{}, err
		}
	}
	return p, g.check(p)
}

// Families returns the families of the plan that are on, IPv4 first.
func (p Plan) Families() []Family {
	var fs []Family
	for _, f := range []Family{p.V4, p.V6} {
		if f.Enabled() {
			fs = append(fs, f)
		}
	}
	return fs
}

// Of returns the family that a belongs to by its kind of address, which is the
// zero Family where that family is off.
func (p Plan) Of(a netip.Addr) Family {
	if a.Is4() {
		return p.V4
	}
	return p.V6
}

// RouterLinkLocal is the IPv6 link-local address of our router, from which
// router advertisements come (RFC 4861 §4.2).
func (p Plan) RouterLinkLocal() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 0x02}) // fe80::2; asked for each packet
}

// GatewayMAC is the hardware address at which every address of ours answers:
// locally administered, and, like slirp4netns', made from the gateway's IPv4
// address.
func (p Plan) GatewayMAC() net.HardwareAddr {
	mac := net.HardwareAddr{0x52, 0x55, 0x0a, 0x00, 0x02, 0x02}
	if p.V4.Enabled() {
		a := p.V4.Gateway.As4()
		copy(mac[2:], a[:])
	}
	return mac
}

// usable reports whether the network lies in unicast space that a container can
// have as its own: not loopback, link-local, multicast or unspecified.
func usable(p netip.Prefix) bool {
	a := p.Addr()
	reserved := a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified()
	if a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240) {
		reserved = true
	}
	return !reserved
}

// newFamily returns the family with what is given, and the rest by host number.
func newFamily(p netip.Prefix, container uint16, g Given) (Family, error) {
	f := Family{Prefix: p}
	for _, a := range []struct {
		is   *netip.Addr
		what string
		list []netip.Addr
	}{{&f.Container, "container", g.Container}, {&f.Gateway, "gateway", g.Gateway}, {&f.DNS, "DNS server", g.DNS}} {
		for _, addr := range a.list {
			if addr.Is4() != p.Addr().Is4() {
				continue
			}
			if a.is.IsValid() {
				return Family{}, fmt.Errorf("address plan: %s %s: there is one already, %s: give one of each family", a.what, addr, *a.is)
			}
			if !hostIn(p, addr) || f.has(addr) {
				return Family{}, fmt.Errorf("address plan: %s %s: want an address of a host in %s that nothing else has", a.what, addr, p)
			}
			*a.is = addr
		}
	}
	f.fill(&f.Gateway, gatewayHost)
	f.fill(&f.DNS, dnsHost)
	f.fill(&f.Container, container)
	if first, last := nth(p, leaseFirstHost), nth(p, leaseLastHost); hostIn(p, first) && hostIn(p, last) && last.Compare(first) > 0 {
		f.LeaseFirst, f.LeaseLast = first, last
	}
	return f, nil
}

// fill gives an address that is missing its usual host number, or the lowest free one.
func (f *Family) fill(a *netip.Addr, host uint16) {
	if a.IsValid() {
		return
	}
	if n := nth(f.Prefix, host); hostIn(f.Prefix, n) && !f.has(n) {
		*a = n
		return
	}
	n := f.Prefix.Addr().Next()
	for f.has(n) {
		n = n.Next()
	}
	*a = n
}

func (f *Family) has(a netip.Addr) bool { return a == f.Container || a == f.Gateway || a == f.DNS }

// hostIn reports whether a host of the network may have the address: it is neither the
// first one nor, in IPv4, the last, which is for broadcasts.
func hostIn(p netip.Prefix, a netip.Addr) bool {
	if a.Zone() != "" || !p.Contains(a) || a == p.Addr() {
		return false
	}
	next := a.Next()
	return a.Is6() || next.IsValid() && p.Contains(next)
}

// given reports whether one of the addresses is of the network's family.
func given(as []netip.Addr, p netip.Prefix) bool {
	return slices.ContainsFunc(as, func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() })
}

// check reports addresses of a family that the plan has not.
func (g Given) check(p Plan) error {
	for _, a := range slices.Concat(g.Container, g.Gateway, g.DNS) {
		if !p.Of(a).Enabled() {
			return fmt.Errorf("address plan: %s: the container has no network of that family", a)
		}
	}
	return nil
}

// nth returns the address with host number n in the network p, whose last
// sixteen bits it fills as far as the prefix leaves them free.
func nth(p netip.Prefix, n uint16) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] |= byte(n)
	b[len(b)-2] |= byte(n >> 8)
	a, _ := netip.AddrFromSlice(b)
	return a
}
