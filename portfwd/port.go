// SPDX-License-Identifier: Apache-2.0

package portfwd

import "net/netip"

// A Port is one that is published. It is a plain value.
type Port struct {
	// ID is the Table's name for it, from 1; none is used twice.
	ID    int
	Proto Proto
	// Host is where the host has it, with the port that was asked for or that the
	// kernel chose. The zero Addr means every address of both families.
	Host netip.AddrPort
	// Interface is the host's interface that it is at; empty for any.
	Interface string
	// Container is where it leads; the zero Addr means the plan's address, of the
	// client's family where the container has that.
	Container netip.AddrPort
	// Loopback and Defer are as in Rule.
	Loopback, Defer bool
	// Auto means that a Follower published it.
	Auto bool
}

// Rule returns the rule for this port alone, with the host port it has.
func (p Port) Rule() Rule {
	return Rule{
		Proto: p.Proto, Host: p.Host.Addr(), Interface: p.Interface, HostPort: p.Host.Port(),
		Container: p.Container.Addr(), ContainerPort: p.Container.Port(), Count: 1,
		Loopback: p.Loopback, Defer: p.Defer,
	}
}

// String returns the port as the text of its rule.
func (p Port) String() string { return p.Rule().String() }

// portOfRule returns the port that a rule of one is for, without ID.
func portOfRule(r Rule, auto bool) Port {
	return Port{
		Proto: r.Proto, Host: netip.AddrPortFrom(r.Host, r.HostPort), Interface: r.Interface,
		Container: netip.AddrPortFrom(r.Container, r.ContainerPort),
		Loopback:  r.Loopback, Defer: r.Defer, Auto: auto,
	}
}

// collides reports whether the host cannot have both ports; they are of the same
// protocol and number.
func (p Port) collides(o Port) bool {
	if p.Interface != "" && o.Interface != "" && p.Interface != o.Interface {
		return false
	}
	return overlap(p.Host.Addr(), o.Host.Addr())
}

// overlap reports whether two addresses to publish at have one in common.
func overlap(a, b netip.Addr) bool {
	switch {
	case !a.IsValid() || !b.IsValid() || a == b:
		return true
	case a.Is4() != b.Is4():
		return false
	}
	return a.IsUnspecified() || b.IsUnspecified()
}
