// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Limits of what a rule may look like.
const (
	// maxRule is the length of a rule in bytes. The longest with a meaning has two
	// IPv6 addresses, an interface, ranges and options: some 160.
	maxRule = 256
	// maxQuoted is how much of a bad word a message repeats, in bytes.
	maxQuoted = 64
	// maxInterface is the length of an interface's name in bytes: IFNAMSIZ of
	// linux/if.h without the final zero.
	maxInterface = 15
	maxPort      = 65535
)

// Options of a rule.
const (
	optLoopback = "loopback"
	optDefer    = "defer"
)

// ParseRule reads what follows --publish:
//
//	[[IP][%INTERFACE]:][HOST:][CONTAINER-IP:]CONTAINER[/tcp|/udp][,loopback][,defer]
//
// HOST and CONTAINER are a port or a range of as many, "8000-8010". HOST left out,
// empty or 0 lets the kernel choose, as Docker and Podman do: "80", "0:80",
// "127.0.0.1::80". An IPv6 address is in brackets, "[::1]:8080:80". No IP means
// every address of both families, 0.0.0.0 those of IPv4 and [::] those of IPv6. The
// protocol is tcp, where none is given. In front of a port an address needs HOST,
// be it empty, lest the container's address be taken for the host's.
//
// Errors are ErrRule, and say what to write instead.
func ParseRule(s string) (Rule, error) {
	if len(s) > maxRule {
		return Rule{}, &failure{kind: ErrRule, text: fmt.Sprintf("a rule of %d bytes is too long: want at most %d", len(s), maxRule)}
	}
	r, err := parseRule(s)
	if err == nil {
		if why := r.wrong(); why != "" {
			err = errors.New(why)
		}
	}
	if err != nil {
		return Rule{}, &failure{kind: ErrRule, text: fmt.Sprintf("rule %q: %v", s, err)}
	}
	return r, nil
}

// parseRule reads a rule whose parts may not fit each other; see Rule.wrong.
func parseRule(s string) (r Rule, err error) {
	s, options, has := strings.Cut(s, ",")
	if has {
		if err := r.options(options); err != nil {
			return r, err
		}
	}
	s, proto, has := strings.Cut(s, "/")
	if r.Proto = TCP; has {
		if r.Proto, err = parseProto(proto); err != nil {
			return r, err
		}
	}
	var fields []string
	if fields, err = splitFields(s); err != nil {
		return r, err
	}
	last := len(fields) - 1
	if r.ContainerPort, r.Count, err = parsePorts(fields[last]); err != nil {
		return r, fmt.Errorf("container %w", err)
	}
	if r.ContainerPort == 0 {
		return r, errors.New("the container's port is 0: want the one at which the service listens")
	}
	fields = fields[:last]
	if n := len(fields); n >= 2 && isAddress(fields[n-1]) {
		if r.Container, err = parseAddr(fields[n-1]); err != nil {
			return r, fmt.Errorf("container %w", err)
		}
		fields = fields[:n-1]
	}
	return r, r.hostSide(fields)
}

// hostSide reads [[IP][%INTERFACE]:]HOST, or nothing.
func (r *Rule) hostSide(fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	host := fields[len(fields)-1]
	if isAddress(host) {
		return fmt.Errorf("whose is the address %s? Write %[1]s::PORT if it is the host's, 0:%[1]s:PORT if the container's", printable(host))
	}
	if host != "" {
		first, count, err := parsePorts(host)
		if err != nil {
			return fmt.Errorf("host %w", err)
		}
		// A single 0 goes with any number of ports.
		if count != r.Count && (first != 0 || count != 1) {
			return fmt.Errorf("%d ports of the host cannot lead to %d of the container: want ranges of the same length", count, r.Count)
		}
		if first == 0 && count != 1 {
			return fmt.Errorf("host port range %s begins with 0: want 0 alone, for ports that the kernel chooses", quote(host))
		}
		r.HostPort = first
	}
	switch fields = fields[:len(fields)-1]; len(fields) {
	case 0:
		return nil
	case 1:
		return r.publishAt(fields[0])
	}
	return errors.New("too many fields: want [IP:]HOST:CONTAINER, and an IPv6 address in brackets")
}

// publishAt reads [IP][%INTERFACE].
func (r *Rule) publishAt(s string) (err error) {
	addr, ifname, has := cutInterface(s)
	if has && ifname == "" {
		return errors.New("no interface after %: name one, or leave out the %")
	}
	r.Interface = ifname
	if addr == "" {
		return nil
	}
	if r.Host, err = parseAddr(addr); err != nil {
		return fmt.Errorf("host %w", err)
	}
	return nil
}

func (r *Rule) options(s string) error {
	for opt := range strings.SplitSeq(s, ",") {
		var set *bool
		switch opt {
		case optLoopback:
			set = &r.Loopback
		case optDefer:
			set = &r.Defer
		default:
			return fmt.Errorf("unknown option %s: want %s or %s", quote(opt), optLoopback, optDefer)
		}
		if *set {
			return fmt.Errorf("option %s is given twice", opt)
		}
		*set = true
	}
	return nil
}

// splitFields splits at the colons that are not in brackets. There is at least one
// field.
func splitFields(s string) ([]string, error) {
	var fields []string
	for {
		skip := 0
		if strings.HasPrefix(s, "[") {
			end := strings.IndexByte(s, ']')
			if end < 0 {
				return nil, errors.New("missing ] after the address")
			}
			skip = end + 1
		}
		i := strings.IndexByte(s[skip:], ':')
		if i < 0 {
			return append(fields, s), nil
		}
		fields = append(fields, s[:skip+i])
		s = s[skip+i+1:]
	}
}

// isAddress tells an address or an interface from a port.
func isAddress(field string) bool { return strings.ContainsAny(field, ".[%") }

// cutInterface splits ADDRESS%INTERFACE, whose address may be in brackets and have
// a zone there.
func cutInterface(s string) (addr, ifname string, has bool) {
	end := strings.IndexByte(s, ']') + 1
	addr, ifname, has = strings.Cut(s[end:], "%")
	return s[:end] + addr, ifname, has
}

func parseAddr(s string) (netip.Addr, error) {
	inner, open := strings.CutPrefix(s, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	a, err := netip.ParseAddr(inner)
	switch {
	case err != nil || open != closed:
		return netip.Addr{}, fmt.Errorf("address %s is not an IP address: want one as in 192.0.2.1 or [2001:db8::1]", quote(s))
	case open && a.Is4():
		return netip.Addr{}, fmt.Errorf("address %s: brackets are for IPv6", quote(s))
	}
	return a, nil
}

// parsePorts reads N or N-M.
func parsePorts(s string) (first, count uint16, err error) {
	from, to, ranged := strings.Cut(s, "-")
	if first, err = parsePort(from); err != nil {
		return 0, 0, err
	}
	if !ranged {
		return first, 1, nil
	}
	last, err := parsePort(to)
	if err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("port range %s runs backwards: want %d-%d", quote(s), last, first)
	}
	if first == 0 && last == maxPort {
		return 0, 0, fmt.Errorf("port range %s has the port 0: want 1-%d", quote(s), maxPort)
	}
	return first, last - first + 1, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %s is not a number from 0 to %d", quote(s), maxPort)
	}
	return uint16(n), nil
}

func parseProto(s string) (Proto, error) {
	if p := Proto(s); p == TCP || p == UDP {
		return p, nil
	}
	return "", errors.New(wrongProto(s))
}

func wrongProto(s string) string {
	if s == "sctp" {
		return "sctp is not supported: want tcp or udp"
	}
	return "unknown protocol " + quote(s) + ": want tcp or udp"
}
