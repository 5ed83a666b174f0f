// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"
	"net"
	"net/netip"
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
// 100, the IPv6 one must be a /64 so that SLAAC works (RFC 4862 §5.5.3).
const (
	maxPrefixLen4 = 25
	prefixLen6    = 64
)

// A Family is one address family's part of a Plan. The zero Family means that
// the family is switched off.
type Family struct {
	Prefix    netip.Prefix // the network, masked
	Gateway   netip.Addr   // our router address, host number 2; invalid for a network without a way out
	DNS       netip.Addr   // our resolver address, host number 3
	Container netip.Addr   // the container's address, host number 100
	// LeaseFirst and LeaseLast bound the addresses that DHCP hands out besides
	// Container, both included.
	LeaseFirst, LeaseLast netip.Addr
}

// Enabled reports whether the family is part of the plan.
func (f Family) Enabled() bool { return f.Prefix.IsValid() }

// Ours reports whether a is one of the addresses at which slipway itself
// answers: the gateway or the resolver.
func (f Family) Ours(a netip.Addr) bool {
	return f.Enabled() && (a == f.Gateway || a == f.DNS)
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
	var p Plan
	if !cidr4.IsValid() && !cidr6.IsValid() {
		return Plan{}, fmt.Errorf("address plan: give an IPv4 or an IPv6 network")
	}
	if cidr4.IsValid() {
		if !cidr4.Addr().Is4() || cidr4.Bits() < 1 || cidr4.Bits() > maxPrefixLen4 {
			return Plan{}, fmt.Errorf("address plan: %s: want an IPv4 network with a prefix length of 1 to %d", cidr4, maxPrefixLen4)
		}
		if !usable(cidr4) {
			return Plan{}, fmt.Errorf("address plan: %s: want a private or public unicast network, such as %s", cidr4, DefaultCIDR4)
		}
		p.V4 = newFamily(cidr4, container4Host)
	}
	if cidr6.IsValid() {
		if !cidr6.Addr().Is6() || cidr6.Addr().Is4In6() || cidr6.Bits() != prefixLen6 {
			return Plan{}, fmt.Errorf("address plan: %s: want an IPv6 network with a prefix length of %d", cidr6, prefixLen6)
		}
		if !usable(cidr6) {
			return Plan{}, fmt.Errorf("address plan: %s: want a unique local or global network, such as %s", cidr6, DefaultCIDR6)
		}
		p.V6 = newFamily(cidr6, container6Host)
	}
	for _, c := range []netip.Prefix{cidr4, cidr6} {
		if c.IsValid() && c != c.Masked() {
			return Plan{}, fmt.Errorf("address plan: %s has host bits set: want the network address %s", c, c.Masked())
		}
	}
	return p, nil
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

func newFamily(p netip.Prefix, container uint16) Family {
	p = p.Masked()
	return Family{
		Prefix:     p,
		Gateway:    nth(p, gatewayHost),
		DNS:        nth(p, dnsHost),
		Container:  nth(p, container),
		LeaseFirst: nth(p, leaseFirstHost),
		LeaseLast:  nth(p, leaseLastHost),
	}
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
