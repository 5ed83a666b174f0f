// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"strconv"
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

// A Proto is the protocol that a Rule is about. The zero Proto is Any.
type Proto uint8

// The protocols of rules.
const (
	Any Proto = iota
	TCP
	UDP
	ICMP // ICMP to IPv4 and ICMPv6 to IPv6 destinations
)

// IP protocol numbers, https://www.iana.org/assignments/protocol-numbers.
const (
	ipProtoICMP   = 1
	ipProtoTCP    = 6
	ipProtoUDP    = 17
	ipProtoICMPv6 = 58
)

// String returns the name used in rules: "tcp", "udp", "icmp", and "any", which
// ParseRule also takes.
func (p Proto) String() string {
	switch p {
	case Any:
		return "any"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMP:
		return "icmp"
	}
	return fmt.Sprintf("proto(%d)", uint8(p))
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
	rest := s
	if i := strings.LastIndexByte(rest, '/'); i >= 0 && startsWithLetter(rest[i+1:]) {
		p, err := parseProto(rest[i+1:])
		if err != nil {
			return Rule{}, fmt.Errorf("rule %q: %w", s, err)
		}
		r.Proto, rest = p, rest[:i]
	}
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
	if r.PortHi != 0 {
		if r.Prefix.Addr().Is6() {
			s = "[" + s + "]"
		}
		s += ":" + strconv.Itoa(int(r.PortLo))
		if r.PortHi != r.PortLo {
			s += "-" + strconv.Itoa(int(r.PortHi))
		}
	}
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
	case r.PortLo > r.PortHi:
		return fmt.Errorf("port range %d-%d runs backwards", r.PortLo, r.PortHi)
	case r.PortLo == 0 && r.PortHi != 0:
		return fmt.Errorf("port 0 is not a port")
	case r.Proto == ICMP && r.PortHi != 0:
		return fmt.Errorf("icmp has no ports")
	}
	return nil
}

// matches reports whether the rule is about this traffic.
func (r *Rule) matches(proto uint8, dst netip.AddrPort) bool {
	if !r.Prefix.Contains(dst.Addr()) {
		return false
	}
	ported := proto == ipProtoTCP || proto == ipProtoUDP
	if r.PortHi != 0 && (!ported || dst.Port() < r.PortLo || dst.Port() > r.PortHi) {
		return false
	}
	switch r.Proto {
	case TCP:
		return proto == ipProtoTCP
	case UDP:
		return proto == ipProtoUDP
	case ICMP:
		return proto == ipProtoICMP || proto == ipProtoICMPv6
	}
	return true
}

func startsWithLetter(s string) bool {
	return s != "" && (s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z')
}

func parseProto(s string) (Proto, error) {
	for p := Any; p <= ICMP; p++ {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown protocol %q: want tcp, udp, icmp or any", s)
}

// splitPorts takes the ports off the end of "CIDR:PORTS" or "[CIDR]:PORTS".
func splitPorts(s string) (cidr, ports string, err error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		cidr, after, ok := strings.Cut(inner, "]")
		if !ok {
			return "", "", fmt.Errorf("missing ]")
		}
		if !strings.Contains(cidr, ":") {
			return "", "", fmt.Errorf("brackets are for IPv6 networks")
		}
		if after == "" {
			return cidr, "", nil
		}
		ports, ok := strings.CutPrefix(after, ":")
		if !ok || ports == "" {
			return "", "", fmt.Errorf("want :PORTS after ], not %q", after)
		}
		return cidr, ports, nil
	}
	// An IPv6 address has at least two colons, an IPv4 one none.
	if strings.Count(s, ":") != 1 {
		return s, "", nil
	}
	cidr, ports, _ = strings.Cut(s, ":")
	if ports == "" {
		return "", "", fmt.Errorf("no ports after the colon")
	}
	return cidr, ports, nil
}

func parseCIDR(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("network %q is not ADDRESS/LENGTH (an IPv6 network with ports is written [ADDRESS/LENGTH]:PORTS)", s)
		}
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("address %q is not an IP address (an IPv6 address with ports is written [ADDRESS]:PORTS)", s)
	}
	if a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("address %q has a zone: leave out %%%s", s, a.Zone())
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func parsePorts(s string) (lo, hi uint16, err error) {
	los, his, ranged := strings.Cut(s, "-")
	if lo, err = parsePort(los); err != nil {
		return 0, 0, err
	}
	if !ranged {
		return lo, lo, nil
	}
	if hi, err = parsePort(his); err != nil {
		return 0, 0, err
	}
	return lo, hi, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}
