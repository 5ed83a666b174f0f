// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/slipway-net/slipway/tap"
)

// A Config says what a Policy allows. The zero Config has no family in its plan,
// so that its Policy denies everything.
type Config struct {
	// Plan is the container's address plan.
	Plan tap.Plan
	// Rules are tried in order; the first that matches wins.
	Rules []Rule
	// HostLoopback lists what leads to the host's loopback. Its addresses may be
	// the plan's gateways. At most one of a family's addresses may have all ports
	// of a protocol. Empty means that host loopback is out of reach.
	HostLoopback []LoopbackAt
	// HostSockets lists what leads to Unix sockets of the host.
	HostSockets []SocketAt
}

// A Verdict is whether traffic may pass. The zero Verdict denies.
type Verdict bool

// The verdicts.
const (
	Denied  Verdict = false
	Allowed Verdict = true
)

// A Decision is the policy's answer for one flow or datagram.
type Decision struct {
	Verdict Verdict
	Reason  Reason
	// Dial is the address to dial in place of the one that was asked for. It is
	// the zero AddrPort where the verdict is Denied, and where Socket is to be
	// dialed.
	Dial netip.AddrPort
	// Socket is the path of the Unix socket to dial; empty for none.
	Socket string
}

// Answer returns what the container should see of a refusal.
func (d Decision) Answer() Answer { return d.Reason.Answer() }

// A Policy decides where the container may go. It is immutable and safe for
// concurrent use.
type Policy struct {
	plan     tap.Plan
	rules    []Rule
	mapped   []LoopbackAt
	sockets  []SocketAt   // each with its address
	served   []netip.Addr // at which one of those is
	never    []builtin
	guarded  []builtin
	bcast    netip.Addr
	loopback [2]netip.Addr // IPv4, IPv6
}

// A builtin is a network that is denied without a rule saying so.
type builtin struct {
	prefix netip.Prefix
	reason Reason
}

// New returns the policy that c describes. It copies what it keeps of c. The
// error names the rule or the address that is not usable.
func New(c Config) (*Policy, error) {
	p := &Policy{
		plan:     c.Plan,
		rules:    slices.Clone(c.Rules),
		mapped:   slices.Clone(c.HostLoopback),
		never:    neverDialed(),
		guarded:  guarded(),
		loopback: [2]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()},
	}
	if c.Plan.V4.Enabled() {
		p.bcast = directedBroadcast(c.Plan.V4.Prefix)
	}
	for i, r := range p.rules {
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("check rule %d: %w", i+1, err)
		}
	}
	for i := range p.mapped {
		if err := p.checkMapped(i); err != nil {
			return nil, fmt.Errorf("map %s to host loopback: %w", p.mapped[i], err)
		}
		p.serve(p.mapped[i].Addr)
	}
	for _, k := range c.HostSockets {
		if err := p.addSocket(k); err != nil {
			return nil, fmt.Errorf("map %s to host socket: %w", k, err)
		}
	}
	return p, nil
}

// Decide returns whether the container may send proto, an IP protocol number, to
// dst, whose port is ignored where the protocol has none. It does not block or
// allocate.
func (p *Policy) Decide(proto uint8, dst netip.AddrPort) Decision {
	a := dst.Addr()
	if r, no := p.impossible(a); no {
		return Decision{Reason: r}
	}
	if hasPorts(proto) && dst.Port() == 0 {
		return Decision{Reason: NoSuchService}
	}
	if path := p.socketAt(proto, dst); path != "" {
		return Decision{Verdict: Allowed, Reason: HostSocket, Socket: path}
	}
	rule := p.match(proto, dst)
	if rule == Deny {
		return Decision{Reason: RuleDeny}
	}
	if p.Serves(a) {
		if to, ok := p.hostLoopback(proto, dst); ok {
			return Decision{Verdict: Allowed, Reason: HostLoopback, Dial: to}
		}
		return Decision{Reason: HostLoopbackOff}
	}
	if f := p.plan.Of(a); f.Prefix.Contains(a) && !f.Shared || a == f.DNS {
		return Decision{Reason: inPlan(f, a)}
	}
	if rule == Allow {
		return Decision{Verdict: Allowed, Reason: RuleAllow, Dial: dst}
	}
	if r, no := lookup(p.guarded, a); no {
		return Decision{Reason: r}
	}
	return Decision{Verdict: Allowed, Reason: Default, Dial: dst}
}

// directedBroadcast returns the directed broadcast address of an IPv4 network: the one
// with all host bits set. It is the zero Addr for an invalid or IPv6 prefix and
// for the networks of one or two addresses, which have none (RFC 3021).
func directedBroadcast(p netip.Prefix) netip.Addr {
	const bits, pointToPoint = 32, 31
	if !p.IsValid() || !p.Addr().Is4() || p.Bits() >= pointToPoint {
		return netip.Addr{}
	}
	b := p.Addr().As4()
	for i := p.Bits(); i < bits; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// impossible reports whether a is no destination at all, whatever the rules say.
func (p *Policy) impossible(a netip.Addr) (Reason, bool) {
	switch {
	case !a.IsValid() || a.Zone() != "":
		return Invalid, true
	case a.Is4In6():
		return Mapped, true
	case a == p.bcast:
		return Broadcast, true
	}
	if r, no := lookup(p.never, a); no {
		return r, true
	}
	if !p.plan.Of(a).Enabled() {
		return FamilyOff, true
	}
	return Default, false
}

// match returns the action of the first rule that matches, zero if none does.
func (p *Policy) match(proto uint8, dst netip.AddrPort) Action {
	for i := range p.rules {
		if p.rules[i].matches(proto, dst) {
			return p.rules[i].Action
		}
	}
	return 0
}

// inPlan returns why a, which lies in f's network, cannot be dialed.
func inPlan(f tap.Family, a netip.Addr) Reason {
	switch a {
	case f.Gateway:
		return HostLoopbackOff
	case f.DNS:
		return NoSuchService
	}
	return NoSuchHost
}

func lookup(list []builtin, a netip.Addr) (Reason, bool) {
	for i := range list {
		if list[i].prefix.Contains(a) {
			return list[i].reason, true
		}
	}
	return Default, false
}

// neverDialed returns the networks that no rule can open, narrower ones before
// those that hold them.
func neverDialed() []builtin {
	return []builtin{
		{netip.MustParsePrefix("127.0.0.0/8"), Loopback},         // RFC 1122 §3.2.1.3
		{netip.MustParsePrefix("::1/128"), Loopback},             // RFC 4291 §2.5.3
		{netip.MustParsePrefix("0.0.0.0/8"), Unspecified},        // RFC 1122 §3.2.1.3
		{netip.MustParsePrefix("::/128"), Unspecified},           // RFC 4291 §2.5.2
		{netip.MustParsePrefix("::/96"), Mapped},                 // IPv4-compatible, RFC 4291 §2.5.5.1
		{netip.MustParsePrefix("224.0.0.0/4"), Multicast},        // RFC 5771
		{netip.MustParsePrefix("ff00::/8"), Multicast},           // RFC 4291 §2.7
		{netip.MustParsePrefix("255.255.255.255/32"), Broadcast}, // RFC 919 §7
		{netip.MustParsePrefix("240.0.0.0/4"), Reserved},         // RFC 1112 §4
	}
}

// guarded returns the networks that only a rule opens, narrower ones first.
func guarded() []builtin {
	return []builtin{
		{netip.MustParsePrefix("169.254.169.254/32"), Metadata},   // most clouds
		{netip.MustParsePrefix("fd00:ec2::254/128"), Metadata},    // Amazon EC2 over IPv6
		{netip.MustParsePrefix("fd20:ce::254/128"), Metadata},     // Google Compute Engine over IPv6
		{netip.MustParsePrefix("100.100.100.200/32"), Metadata},   // Alibaba ECS, in shared space no subscriber gets
		{netip.MustParsePrefix("168.63.129.16/32"), Metadata},     // Azure WireServer, the same address everywhere
		{netip.MustParsePrefix("169.254.0.0/16"), LinkLocal},      // RFC 3927
		{netip.MustParsePrefix("fe80::/10"), LinkLocal},           // RFC 4291 §2.5.6
		{netip.MustParsePrefix("64:ff9b::a9fe:0/112"), LinkLocal}, // 169.254.0.0/16 through NAT64, RFC 6052 §2.1
	}
}
