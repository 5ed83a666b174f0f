// SPDX-License-Identifier: Apache-2.0

package pasta

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/portfwd"
)

// The protocols that have ports.
const (
	tcp = iota
	udp
	protocols
)

func protoOf(p int) portfwd.Proto {
	return [protocols]portfwd.Proto{tcp: portfwd.TCP, udp: portfwd.UDP}[p]
}

// Words in place of ports.
const (
	wordAll  = "all"
	wordAuto = "auto"
)

// Limits of a specification.
const (
	// maxSpec is its length in bytes, many times what anybody writes by hand.
	maxSpec = 8192
	maxPort = 65535
)

// ports are what all the options of one letter ask for.
type ports struct {
	given, none bool
	rules       []portfwd.Rule
	auto        *portfwd.Auto
	host        []attach.HostPort
}

// A span is the ports from lo to hi, both included.
type span struct{ lo, hi int }

func (s span) len() int { return s.hi - s.lo + 1 }

// A chunk is one part of a list: ports and where they lead, or ports that are left out,
// or the word for what listens.
type chunk struct {
	from, to span
	target   netip.Addr
	excluded bool
	follow   bool
}

// publish reads what follows -t or -u:
//
//	none | [ADDR[%IF]/|*[%IF]/|%IF/]CHUNK[,CHUNK…]
//	CHUNK: all | auto | ~N[-M] | N[-M][:[TARGET/]N[-M]] | N[-M]:TARGET
//
// Brackets around an IPv6 address may be there.
func (p *ports) publish(proto int, flag, s string) error {
	chunks, host, ifname, err := p.begin(flag, s)
	if err != nil || p.none {
		return err
	}
	excluded := exclusions(chunks)
	before := len(p.rules)
	follow, explicit := len(excluded) > 0, false
	for _, c := range chunks {
		switch {
		case c.excluded:
		case c.follow:
			follow = true
			if c.target.IsValid() {
				return refusef("%s %q: all ports lead to the container's own addresses: name the ports that lead to %s", flag, s, c.target)
			}
		default:
			explicit = true
			p.rules = append(p.rules, c.rules(proto, host, ifname, excluded)...)
		}
	}
	// Ports that are only left out mean all the others.
	if explicit && !slices.ContainsFunc(chunks, func(c chunk) bool { return c.follow }) {
		follow = false
	}
	if follow {
		if err := p.follow(proto, flag, host, ifname, excluded); err != nil {
			return err
		}
	}
	for _, r := range p.rules[before:] {
		if err := r.Check(); err != nil {
			return refusef("%s %q: %v", flag, s, err)
		}
	}
	return nil
}

// reach reads what follows -T or -U, which has no addresses.
func (p *ports) reach(proto int, flag, s string) error {
	chunks, host, ifname, err := p.begin(flag, s)
	if err != nil || p.none {
		return err
	}
	if host.IsValid() || ifname != "" {
		return refusef("%s %q: the container's ports are at its loopback: give no address", flag, s)
	}
	excluded := exclusions(chunks)
	for _, c := range chunks {
		if c.excluded || c.follow { // what listens is not followed: docs/compat.md says why
			continue
		}
		if c.target.IsValid() {
			return refusef("%s %q: the host's ports are at its loopback: give no address", flag, s)
		}
		if proto == udp {
			return refusef("%s %q: only none and auto: UDP reaches the host's loopback by --map-host-loopback", flag, s)
		}
		for i := range c.from.len() {
			if port := c.from.lo + i; !in(excluded, port) {
				p.host = append(p.host, attach.HostPort{Port: uint16(port), Host: uint16(c.to.lo + i)})
			}
		}
	}
	if len(p.host) > attach.MaxHostPorts {
		return refusef("%s %q: %d ports: want at most %d", flag, s, len(p.host), attach.MaxHostPorts)
	}
	return nil
}

// begin reads the list, and notes none.
func (p *ports) begin(flag, s string) (chunks []chunk, host netip.Addr, ifname string, err error) {
	if len(s) > maxSpec {
		return nil, host, "", refusef("%s: %d bytes of ports: want at most %d", flag, len(s), maxSpec)
	}
	if p.none || p.given && s == none {
		return nil, host, "", refusef("%s %s conflicts with ports that are forwarded: give one or the other", flag, none)
	}
	p.given = true
	if s == none {
		p.none = true
		return nil, host, "", nil
	}
	list := s
	if prefix, rest, ok := strings.Cut(s, "/"); ok {
		if a, name, ok := parseHost(prefix); ok {
			host, ifname, list = a, name, rest
		}
	}
	for word := range strings.SplitSeq(list, ",") {
		c, ok := parseChunk(word)
		if !ok {
			return nil, host, "", refusef("%s %q: want none, all, auto, or ports such as 8080:80, 127.0.0.1/2000-2010,~2005 or 22-25:32-35", flag, s)
		}
		chunks = append(chunks, c)
	}
	return chunks, host, ifname, nil
}

// parseHost reads where ports are published: ADDR[%IF], *[%IF] or %IF.
func parseHost(s string) (a netip.Addr, ifname string, ok bool) {
	s, ifname, named := strings.Cut(s, "%")
	if named && ifname == "" {
		return a, "", false
	}
	if s == "*" || s == "" {
		return a, ifname, s != "" || named
	}
	a, ok = parseTarget(s)
	return a, ifname, ok
}

// parseTarget reads an address, which may have brackets.
func parseTarget(s string) (netip.Addr, bool) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return a, ok && err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil && a.Zone() == ""
}

// parseChunk reads one part of a list.
func parseChunk(s string) (c chunk, ok bool) {
	if rest, excluded := strings.CutPrefix(s, "~"); excluded {
		c.from, ok = parseSpan(rest)
		c.excluded = true
		return c, ok
	}
	from, to, mapped := strings.Cut(s, ":")
	if from == wordAll || s == wordAuto {
		c.follow, ok = true, true
		if mapped {
			c.target, ok = parseTarget(to)
		}
		return c, ok
	}
	if c.from, ok = parseSpan(from); !ok {
		return c, false
	}
	c.to = c.from
	if !mapped {
		return c, true
	}
	if target, span, both := strings.Cut(to, "/"); both {
		if c.target, ok = parseTarget(target); !ok {
			return c, false
		}
		to = span
	} else if c.target, ok = parseTarget(to); ok {
		return c, true
	}
	if c.to, ok = parseSpan(to); !ok || c.to.len() != c.from.len() {
		return c, false
	}
	return c, true
}

// parseSpan reads N or N-M.
func parseSpan(s string) (span, bool) {
	lo, hi, ranged := strings.Cut(s, "-")
	a, ok := number(lo, 1, maxPort)
	if !ok || !ranged {
		return span{a, a}, ok
	}
	b, ok := number(hi, a, maxPort)
	return span{a, b}, ok
}

// exclusions returns what is left out.
func exclusions(chunks []chunk) (out []span) {
	for _, c := range chunks {
		if c.excluded {
			out = append(out, c.from)
		}
	}
	return out
}

func in(spans []span, port int) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return port >= s.lo && port <= s.hi })
}

// rules returns the rules for the ports of a chunk that are not left out, as few as can
// be.
func (c chunk) rules(proto int, host netip.Addr, ifname string, excluded []span) (out []portfwd.Rule) {
	inRow := false
	for i := range c.from.len() {
		if in(excluded, c.from.lo+i) {
			inRow = false
			continue
		}
		if inRow {
			out[len(out)-1].Count++
			continue
		}
		inRow = true
		out = append(out, portfwd.Rule{
			Proto: protoOf(proto), Host: host, Interface: ifname, HostPort: uint16(c.from.lo + i),
			Container: c.target, ContainerPort: uint16(c.to.lo + i), Count: 1,
		})
	}
	return out
}

// follow notes that what listens is to be published, but for what is left out.
func (p *ports) follow(proto int, flag string, host netip.Addr, ifname string, excluded []span) error {
	if p.auto == nil {
		p.auto = &portfwd.Auto{Proto: protoOf(proto), Host: host, Interface: ifname}
	}
	if p.auto.Host != host || p.auto.Interface != ifname {
		return refusef("%s: what listens is published at one address only: name ports for the other", flag)
	}
	for _, s := range excluded {
		p.auto.Exclude = append(p.auto.Exclude, portfwd.PortRange{Proto: protoOf(proto), First: uint16(s.lo), Last: uint16(s.hi)})
	}
	if err := p.auto.Check(); err != nil {
		return refusef("%s: %v", flag, err)
	}
	return nil
}

// follows returns what is followed of both protocols, which is everything where nothing
// is said of them.
func (o Options) follows() (*portfwd.Auto, error) {
	var autos []portfwd.Auto
	for proto, p := range o.ports {
		if off := [protocols]bool{tcp: o.Without.TCP, udp: o.Without.UDP}[proto]; off {
			continue
		}
		switch {
		case !p.given:
			autos = append(autos, portfwd.Auto{Proto: protoOf(proto)})
		case p.auto != nil:
			autos = append(autos, *p.auto)
		}
	}
	switch len(autos) {
	case 0:
		return nil, nil
	case 1:
		return &autos[0], nil
	}
	a, b := autos[0], autos[1]
	if a.Host != b.Host || a.Interface != b.Interface {
		return nil, refusef("-t and -u: what listens is published at one address only: give the same to both, or name ports")
	}
	a.Proto = ""
	a.Exclude = append(slices.Clip(a.Exclude), b.Exclude...)
	return &a, nil
}
