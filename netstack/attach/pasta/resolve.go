// SPDX-License-Identifier: Apache-2.0

package pasta

import (
	"cmp"
	"net/netip"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
)

// dnsPort is where name servers listen.
const dnsPort = 53

// Addresses that are made up, as pasta does: those of a container whose host has no
// network (local mode), and the next hops where the host's default route has none. They
// are of one link only, and so nobody else's.
func localNetwork() netip.Prefix { return netip.MustParsePrefix("169.254.2.1/16") }
func localGateway() netip.Addr   { return netip.MustParseAddr("169.254.2.2") }
func localHop6() netip.Addr      { return netip.MustParseAddr("fe80::1") }

// Prefix lengths of addresses that are given without (RFC 4632 and RFC 4291 §2.5.4).
const (
	classA, classB, classC = 8, 16, 24
	prefix6                = 64
)

// Resolve returns the session that the options ask for on that host, without a Target
// where they ask for Spawn, and without a Log. It asks whether the host has the
// addresses and interfaces to send from. The error is an *Error.
func (o Options) Resolve(h Host) (attach.Config, error) {
	cfg := attach.Config{Without: o.Without, NoSplice: o.NoSplice, MayLackDNS: true, HostPorts: o.HostPorts()}
	for _, name := range []string{o.template, o.outboundIf.v4, o.outboundIf.v6} {
		if _, ok := h.find(name); name != "" && !ok {
			return cfg, refusef("the host has no interface %q", name)
		}
	}
	t := o.templates(h)
	if err := o.plan(&cfg, t); err != nil {
		return cfg, err
	}
	o.tap(&cfg, t)
	if err := o.services(&cfg, t); err != nil {
		return cfg, err
	}
	var err error
	if cfg.Outbound, err = o.leave(); err != nil {
		return cfg, err
	}
	if cfg.Auto, err = o.follows(); err != nil {
		return cfg, err
	}
	for proto, p := range o.ports {
		if off := [protocols]bool{tcp: o.Without.TCP, udp: o.Without.UDP}[proto]; !off {
			cfg.Publish = append(cfg.Publish, p.rules...)
		}
	}
	if o.Without.TCP {
		cfg.HostPorts = nil
	}
	return cfg, nil
}

// templates returns what is copied of the host.
func (o Options) templates(h Host) (t perFamily[template]) {
	for _, f := range []familyOf{four, six} {
		*t.at(f) = h.template(f, cmp.Or(o.template, *o.outboundIf.at(f)))
	}
	return t
}

// plan makes the address plan: what is given, and else what the host has.
func (o Options) plan(cfg *attach.Config, t perFamily[template]) error {
	p := &cfg.Tap.Plan
	if o.only != six {
		if addr := o.addr(four, t.v4); addr.IsValid() {
			p.V4 = o.family(four, addr, t.v4.gateway)
		}
	}
	if o.only != four {
		if addr := o.addr(six, t.v6); addr.IsValid() && o.MTU >= tap.MinMTU6 {
			p.V6 = o.family(six, addr, t.v6.gateway)
		}
	}
	switch {
	case p.V4.Enabled() || p.V6.Enabled():
	case o.only == six:
		return refusef("the host has no IPv6 address with a default route to copy: give --address and --gateway")
	default:
		p.V4 = tap.Family{
			Prefix: localNetwork().Masked(), Container: localNetwork().Addr(), Shared: true,
			Gateway: cmp.Or(o.gateways.v4, localGateway()), DNS: o.dnsForward.v4,
		}
	}
	for _, f := range p.Families() {
		if f.Gateway == f.Container || f.DNS == f.Container {
			return refusef("%s is the container's own address: the gateway and the name server need others", f.Container)
		}
	}
	for _, a := range []netip.Addr{o.gateways.v4, o.gateways.v6} {
		if a.IsValid() && !p.Of(a).Enabled() {
			return refusef("--gateway %s: the container has no address of that family: give --address", a)
		}
	}
	return nil
}

// addr returns the container's address of a family, if it has one.
func (o Options) addr(f familyOf, t template) netip.Prefix {
	p := *o.addresses.at(f)
	if !p.IsValid() {
		p = t.addr
	}
	if !p.IsValid() {
		return p
	}
	n := p.Bits()
	switch {
	case f == four && o.netmask >= 0:
		n = o.netmask
	case n > 0:
	case p.Addr() == t.addr.Addr():
		n = t.addr.Bits()
	case f == six:
		n = prefix6
	default:
		n = classOf(p.Addr())
	}
	return netip.PrefixFrom(p.Addr(), n)
}

// classOf returns the length that goes with an IPv4 address of which nothing else is
// known.
func classOf(a netip.Addr) int {
	switch first := a.As4()[0]; {
	case first < 128:
		return classA
	case first < 192:
		return classB
	}
	return classC
}

// family makes the plan of a family. A gateway that is of one link only, or that the
// host's route has none of, is but the next hop: our own name is another address then,
// the container's neighbor.
func (o Options) family(f familyOf, addr netip.Prefix, gateway netip.Addr) tap.Family {
	out := tap.Family{Prefix: addr.Masked(), Container: addr.Addr(), DNS: *o.dnsForward.at(f), Shared: true}
	gateway = cmp.Or(*o.gateways.at(f), gateway)
	if f == four {
		out.Gateway = cmp.Or(gateway, localGateway())
		return out
	}
	out.Gateway = cmp.Or(gateway, localHop6())
	if out.Gateway.IsLinkLocalUnicast() {
		out.NextHop, out.Gateway = out.Gateway, neighborOf(addr.Addr())
	}
	return out
}

// neighborOf returns the address that differs from a in its last bit.
func neighborOf(a netip.Addr) netip.Addr {
	b := a.As16()
	b[len(b)-1] ^= 1
	return netip.AddrFrom16(b)
}

// tap says which tap to make. Its name is that of the interface that is copied.
func (o Options) tap(cfg *attach.Config, t perFamily[template]) {
	cfg.Tap.Target = o.Target
	cfg.Tap.Name = cmp.Or(o.IfName, t.v4.ifname, t.v6.ifname, tap.DefaultName)
	cfg.Tap.MAC = o.MAC
	cfg.Tap.Pin = true
	cfg.Tap.Configure = o.Configure
	if o.Configure {
		cfg.Tap.MTU = o.MTU
	} else {
		cfg.MTU = o.MTU
	}
}

// services says what is offered at which addresses, each of which leads to one thing.
func (o Options) services(cfg *attach.Config, t perFamily[template]) error {
	cfg.NoDNS = true
	for _, f := range cfg.Tap.Plan.Families() {
		cfg.NoDNS = cfg.NoDNS && !f.DNS.IsValid()
		family := of(f.Container)
		loopback := *o.mapHostLoopback.given.at(family)
		if !loopback.IsValid() && !o.noMapGW && !o.mapHostLoopback.none {
			loopback = f.Via()
		}
		if loopback.IsValid() {
			cfg.HostLoopback = append(cfg.HostLoopback, policy.LoopbackAt{Addr: loopback})
		}
		guest, own := *o.mapGuest.given.at(family), t.at(family).addr.Addr()
		if guest.IsValid() && own.IsValid() {
			cfg.HostLoopback = append(cfg.HostLoopback, policy.LoopbackAt{Addr: guest, Host: own})
		}
		switch {
		case loopback.IsValid() && (loopback == f.DNS || loopback == guest):
			return refusef("%s leads to the host's loopback: give --no-map-gw, or --dns-forward and --map-guest-addr other addresses", loopback)
		case guest.IsValid() && guest == f.DNS:
			return refusef("--dns-forward %s and --map-guest-addr: give them two addresses", guest)
		}
	}
	upstream := o.dnsHosts
	if len(upstream) == 0 {
		upstream = o.dns
	}
	for _, a := range upstream {
		cfg.DNS = append(cfg.DNS, netip.AddrPortFrom(a, dnsPort))
	}
	return nil
}

// leave returns where flows leave from.
func (o Options) leave() (out netstack.Outbound, err error) {
	names := o.outboundIf
	if names.v4 != "" && names.v6 != "" && names.v4 != names.v6 {
		return out, refusef("--outbound-if4 %s and --outbound-if6 %s: want the same interface for both families", names.v4, names.v6)
	}
	words := []string{cmp.Or(names.v4, names.v6)}
	for _, a := range []netip.Addr{o.outbound.v4, o.outbound.v6} {
		if a.IsValid() {
			words = append(words, a.String())
		}
	}
	for _, w := range words {
		if w == "" {
			continue
		}
		if out, err = netstack.ParseOutbound(out, w); err != nil {
			return out, refusef("%v", err)
		}
	}
	return out, nil
}
