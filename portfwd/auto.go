// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Limits of what an Auto may look like.
const (
	// maxAuto is the length of its text in bytes, and maxItems how many ranges of
	// ports it may have. Both are many times what anybody writes by hand.
	maxAuto  = 4096
	maxItems = 256
)

// autoWord is what an Auto has in place of ports.
const autoWord = "auto"

// A PortRange is the ports from First to Last, both included.
type PortRange struct {
	// Proto is that of the ports; empty means both.
	Proto       Proto
	First, Last uint16
}

// String returns the range in the form that ParseAuto reads, "22", "8000-9000/tcp".
func (p PortRange) String() string {
	s := strconv.Itoa(int(p.First))
	if p.Last != p.First {
		s += "-" + strconv.Itoa(int(p.Last))
	}
	if p.Proto != "" {
		s += "/" + string(p.Proto)
	}
	return s
}

func (p PortRange) has(k portKey) bool {
	return (p.Proto == "" || p.Proto == k.proto) && k.port >= p.First && k.port <= p.Last
}

// An Auto asks for whatever listens in the container to be published, at the same
// port of the host. It is a plain value; the zero Auto asks for all of it.
type Auto struct {
	// Host and Interface are where to publish, as in Rule.
	Host      netip.Addr
	Interface string
	// Proto is the protocol whose ports are followed; empty means both.
	Proto Proto
	// Only are the ports to follow; none means all.
	Only []PortRange
	// Exclude are the ports that are never followed, be they in Only or not.
	Exclude []PortRange
	// Loopback means that services at the container's loopback alone are followed
	// too.
	Loopback bool
}

// ParseAuto reads what follows --publish in place of a rule:
//
//	[[IP][%INTERFACE]:]auto[/tcp|/udp][,PORTS[/PROTO]]...[,!PORTS[/PROTO]]...[,loopback]
//
// PORTS is a port or a range. Those with an exclamation mark are never followed; if
// there are others, only those are: "auto,!22,!8000-9000/tcp", "127.0.0.1:auto/tcp,3000-3999".
//
// Errors are ErrRule, and say what to write instead.
func ParseAuto(s string) (Auto, error) {
	if len(s) > maxAuto {
		return Auto{}, &failure{kind: ErrRule, text: fmt.Sprintf("a rule of %d bytes is too long: want at most %d", len(s), maxAuto)}
	}
	a, err := parseAuto(s)
	if err == nil {
		err = a.wrong()
	}
	if err != nil {
		return Auto{}, &failure{kind: ErrRule, text: fmt.Sprintf("rule %s: %v", quote(s), err)}
	}
	return a, nil
}

// IsAuto reports whether s is for ParseAuto rather than for ParseRule.
func IsAuto(s string) bool {
	s, _, _ = strings.Cut(s, ",")
	s, _, _ = strings.Cut(s, "/")
	return s == autoWord || strings.HasSuffix(s, ":"+autoWord)
}

func parseAuto(s string) (a Auto, err error) {
	if !IsAuto(s) {
		return a, errors.New("want " + autoWord + ", with an address in front as in 127.0.0.1:" + autoWord)
	}
	head, items, has := strings.Cut(s, ",")
	head, proto, hasProto := strings.Cut(head, "/")
	if hasProto {
		if a.Proto, err = parseProto(proto); err != nil {
			return a, err
		}
	}
	if at, ok := strings.CutSuffix(head, ":"+autoWord); ok {
		var r Rule
		if err := r.publishAt(at); err != nil {
			return a, err
		}
		a.Host, a.Interface = r.Host, r.Interface
	}
	if !has {
		return a, nil
	}
	for item := range strings.SplitSeq(items, ",") {
		if err := a.item(item); err != nil {
			return a, err
		}
	}
	return a, nil
}

// item reads what stands between two commas.
func (a *Auto) item(s string) error {
	if s == optLoopback {
		if a.Loopback {
			return errors.New("option " + optLoopback + " is given twice")
		}
		a.Loopback = true
		return nil
	}
	ports, excluded := strings.CutPrefix(s, "!")
	ports, proto, has := strings.Cut(ports, "/")
	first, count, err := parsePorts(ports)
	if err != nil {
		return fmt.Errorf("%w, nor the option %s", err, optLoopback)
	}
	p := PortRange{First: first, Last: first + count - 1}
	if has {
		if p.Proto, err = parseProto(proto); err != nil {
			return err
		}
	}
	if excluded {
		a.Exclude = append(a.Exclude, p)
	} else {
		a.Only = append(a.Only, p)
	}
	return nil
}

// wrong says what is.
func (a Auto) wrong() error {
	if why := wrongHost(a.Host, a.Interface); why != "" {
		return errors.New(why)
	}
	if a.Proto != "" && a.Proto != TCP && a.Proto != UDP {
		return errors.New(wrongProto(string(a.Proto)))
	}
	if n := len(a.Only) + len(a.Exclude); n > maxItems {
		return fmt.Errorf("%d ranges of ports: want at most %d", n, maxItems)
	}
	for _, ranges := range [][]PortRange{a.Only, a.Exclude} {
		for _, p := range ranges {
			switch {
			case p.First == 0:
				return fmt.Errorf("ports %s: nothing listens at port 0", p)
			case p.Last < p.First:
				return fmt.Errorf("port range %s runs backwards", p)
			case p.Proto != "" && p.Proto != TCP && p.Proto != UDP:
				return errors.New(wrongProto(string(p.Proto)))
			}
		}
	}
	return nil
}

// Check returns an error, which is ErrRule, if there can be no such Auto.
func (a Auto) Check() error {
	if err := a.wrong(); err != nil {
		return &failure{kind: ErrRule, text: fmt.Sprintf("rule %s: %v", quote(a.String()), err)}
	}
	return nil
}

// String returns the Auto in the form that ParseAuto reads.
func (a Auto) String() string {
	var b strings.Builder
	if a.Host.IsValid() {
		b.WriteString(bracket(a.Host))
	}
	if a.Interface != "" {
		b.WriteString("%" + a.Interface)
	}
	if b.Len() > 0 {
		b.WriteByte(':')
	}
	b.WriteString(autoWord)
	if a.Proto != "" {
		b.WriteString("/" + string(a.Proto))
	}
	for _, p := range a.Only {
		b.WriteString("," + p.String())
	}
	for _, p := range a.Exclude {
		b.WriteString(",!" + p.String())
	}
	if a.Loopback {
		b.WriteString("," + optLoopback)
	}
	return b.String()
}

// follows reports whether the port is one to follow. Ports of UDP from which
// programs send are followed only if named: nobody means them to be reached.
func (a Auto) follows(k portKey, ephemeral PortRange) bool {
	if a.Proto != "" && a.Proto != k.proto {
		return false
	}
	for _, p := range a.Exclude {
		if p.has(k) {
			return false
		}
	}
	for _, p := range a.Only {
		if p.has(k) {
			return true
		}
	}
	return len(a.Only) == 0 && (k.proto != UDP || !ephemeral.has(k))
}
