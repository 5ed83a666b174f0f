// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// Served returns the addresses of the container's side at which something of the
// host is reached: its loopback or a Unix socket. They are ours, besides those of
// the plan.
func (p *Policy) Served() []netip.Addr { return slices.Clone(p.served) }

// Serves reports whether a is one of Served.
func (p *Policy) Serves(a netip.Addr) bool { return slices.Contains(p.served, a) }

// SeenAs returns how an address of the host's side, from which traffic of the IP
// protocol comes, looks from the container: the host's loopback is behind the
// address and port that lead there, or else behind the gateway; so are other addresses
// of the host's that something leads to. For a protocol
// without ports the port stays what it is. It does not block or allocate.
func (p *Policy) SeenAs(proto uint8, host netip.AddrPort) netip.AddrPort {
	a := host.Addr()
	for i := range p.mapped {
		l := &p.mapped[i]
		if !l.leadsTo(a) {
			continue
		}
		if port, ok := l.seen(proto, host.Port()); ok {
			return netip.AddrPortFrom(l.Addr, port)
		}
	}
	if !a.IsLoopback() {
		return host
	}
	return netip.AddrPortFrom(p.plan.Of(a).Gateway, host.Port())
}

// hostLoopback returns what of the host's loopback dst leads to, if anything.
func (p *Policy) hostLoopback(proto uint8, dst netip.AddrPort) (netip.AddrPort, bool) {
	for i := range p.mapped {
		l := &p.mapped[i]
		if l.Addr != dst.Addr() {
			continue
		}
		if port, ok := l.dial(proto, dst.Port()); ok {
			to := p.loopback[0]
			if l.Addr.Is6() {
				to = p.loopback[1]
			}
			if l.Host.IsValid() {
				to = l.Host
			}
			return netip.AddrPortFrom(to, port), true
		}
	}
	return netip.AddrPort{}, false
}

// socketAt returns the path of the socket that dst leads to, or nothing.
func (p *Policy) socketAt(proto uint8, dst netip.AddrPort) string {
	if proto != ipProtoTCP {
		return ""
	}
	for i := range p.sockets {
		if k := &p.sockets[i]; k.Port == dst.Port() && k.Addr == dst.Addr() {
			return k.Path
		}
	}
	return ""
}

// checkMapped checks what is mapped by number, against those before it too.
func (p *Policy) checkMapped(i int) error {
	l := &p.mapped[i]
	if err := l.validate(); err != nil {
		return err
	}
	if err := p.checkServed(l.Addr); err != nil {
		return err
	}
	if l.Addr == p.plan.Of(l.Addr).DNS {
		return fmt.Errorf("it is the resolver's address")
	}
	for j := range p.mapped[:i] {
		m := &p.mapped[j]
		switch {
		case l.overlaps(m):
			return fmt.Errorf("%s is mapped already, for some of its ports too: name each port once", m)
		case l.whole() && m.whole() && l.Host == m.Host && l.Addr.Is4() == m.Addr.Is4() && l.Proto.overlaps(m.Proto):
			return fmt.Errorf("all ports of %s are mapped already: name the ports that this address is for", m)
		}
	}
	return nil
}

// addSocket takes a socket in, at each of its addresses.
func (p *Policy) addSocket(k SocketAt) error {
	if err := k.validate(); err != nil {
		return err
	}
	at := []netip.Addr{k.Addr}
	if !k.Addr.IsValid() {
		at = at[:0]
		for _, f := range p.plan.Families() {
			at = append(at, f.Gateway)
		}
	}
	for _, k.Addr = range at {
		if err := p.checkSocket(k); err != nil {
			return err
		}
		p.sockets = append(p.sockets, k)
		p.serve(k.Addr)
	}
	return nil
}

func (p *Policy) checkSocket(k SocketAt) error {
	if err := p.checkServed(k.Addr); err != nil {
		return err
	}
	f := p.plan.Of(k.Addr)
	if !f.Prefix.Contains(k.Addr) {
		return fmt.Errorf("address %s is not in the container's network %s", k.Addr, f.Prefix)
	}
	const dnsPort = 53
	if k.Addr == f.DNS && k.Port == dnsPort {
		return fmt.Errorf("the resolver is there: take another port or address")
	}
	if path := p.socketAt(ipProtoTCP, netip.AddrPortFrom(k.Addr, k.Port)); path != "" {
		return fmt.Errorf("port %d leads to %s already", k.Port, path)
	}
	return nil
}

// checkServed checks that something of the host may be at a.
func (p *Policy) checkServed(a netip.Addr) error {
	if r, no := p.impossible(a); no {
		return fmt.Errorf("no address to dial (%v)", r)
	}
	if a == p.plan.Of(a).Container {
		return fmt.Errorf("it is the container's own address")
	}
	return nil
}

// serve notes that something of the host is at a.
func (p *Policy) serve(a netip.Addr) {
	if !slices.Contains(p.served, a) {
		p.served = append(p.served, a)
	}
}
