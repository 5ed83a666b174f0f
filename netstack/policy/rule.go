// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// An Action is what a Rule does with the traffic it matches. The zero Action is
// not valid in a Rule.
type Action uint8

// The actions.
const (
	Allow Action = iota + 1 // the traffic may pass
	Deny                    // the traffic is refused as administratively prohibited
)

// String returns "allow" or "deny".
func (a Action) String() string {
	switch a {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// A Rule allows or denies traffic to the addresses of a network. It is a plain
// value; the zero Rule is not valid.
type Rule struct {
	Action Action
	Prefix netip.Prefix // masked, without zone, not IPv4-mapped
	// PortLo and PortHi bound the ports, both included; 0, 0 stands for all
	// ports and for protocols that have none. A Rule with ports matches TCP
	// and UDP only.
	PortLo, PortHi uint16
	Proto          Proto
}

// ParseRule reads what follows --allow or --deny:
//
//	CIDR[:PORTS][/PROTO]
//
// CIDR is a network ("10.0.0.0/8") or one address ("10.1.2.3", "fd00::1"),
// PORTS is N or LO-HI, and PROTO is tcp, udp, icmp or any. A slash that is
// followed by a letter introduces PROTO and any other slash the prefix length,
// so "10.0.0.0/8:443/tcp", "10.1.2.3/udp" and "10.0.0.0/8/udp" each have one
// reading. An IPv6 network with ports is written in brackets, like
// "[fd00::/8]:80-90/tcp"; without ports the brackets may be left out.
func ParseRule(action Action, s string) (Rule, error) {
	r := Rule{Action: action}
	proto, rest, err := cutProto(s)
	if err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", s, err)
	}
	r.Proto = proto
	cidr, ports, err := splitPorts(rest)
	if err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", s, err)
	}
	if r.Prefix, err = parseCIDR(cidr); err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", s, err)
	}
	if ports != "" {
		if r.PortLo, r.PortHi, err = parsePorts(ports); err != nil {
			return Rule{}, fmt.Errorf("rule %q: %w", s, err)
		}
	}
	if err := r.validate(); err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", s, err)
	}
	return r, nil
}

// String returns the rule without its action in the form that ParseRule reads:
// one address without its prefix length, no "/any", brackets only where needed.
func (r Rule) String() string {
	s := r.Prefix.String()
	if r.Prefix.IsSingleIP() {
		s = r.Prefix.Addr().String()
	}
	s = addrPorts(s, r.Prefix.Addr().Is6(), r.PortLo, r.PortHi)
	if r.Proto != Any {
		s += "/" + r.Proto.String()
	}
	return s
}

func (r Rule) validate() error {
	a := r.Prefix.Addr()
	switch {
	case r.Action != Allow && r.Action != Deny:
		return fmt.Errorf("unknown action %v", r.Action)
	case r.Proto > ICMP:
		return fmt.Errorf("unknown protocol %v", r.Proto)
	case !r.Prefix.IsValid():
		return fmt.Errorf("no network given")
	case a.Is4In6():
		return fmt.Errorf("%s is an IPv4 network in IPv6 notation: write it as IPv4", r.Prefix)
	case r.Prefix != r.Prefix.Masked():
		return fmt.Errorf("%s has host bits set: want the network address %s", r.Prefix, r.Prefix.Masked())
	case r.Proto == ICMP && r.PortHi != 0:
		return fmt.Errorf("icmp has no ports")
	}
	return checkPorts(r.PortLo, r.PortHi)
}

// matches reports whether the rule is about this traffic.
func (r *Rule) matches(proto uint8, dst netip.AddrPort) bool {
	return r.Prefix.Contains(dst.Addr()) && r.Proto.has(proto) && inPorts(r.PortLo, r.PortHi, proto, dst.Port())
}

func parseCIDR(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("network %q is not ADDRESS/LENGTH (an IPv6 network with ports is written [ADDRESS/LENGTH]:PORTS)", s)
		}
		return p, nil
	}
	a, err := parseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
