// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/slipway-net/slipway/tap"
)

// A Proto is a transport protocol whose ports can be published.
type Proto string

// The protocols.
const (
	TCP Proto = "tcp"
	UDP Proto = "udp"
)

// A Rule asks for Count ports of the host, from HostPort on, to lead to as many of
// the container's, from ContainerPort on. It is a plain value.
type Rule struct {
	Proto Proto
	// Host is the address to publish at; the zero Addr means every address of the
	// host, of both families.
	Host netip.Addr
	// Interface is the name of the host's interface to publish at; empty for any.
	Interface string
	// HostPort is the first port of the host; 0 lets the kernel choose, each by
	// itself.
	HostPort uint16
	// Container is the container's address; the zero Addr means the plan's, of the
	// client's family where the container has that.
	Container     netip.Addr
	ContainerPort uint16
	// Count is how many ports the rule is for, at least 1.
	Count uint16
	// Loopback means that the service listens at the container's loopback only: at
	// 127.0.0.1, or at ::1 where nobody listens there.
	Loopback bool
	// Defer means that TCP clients which have sent nothing yet are not passed on
	// (TCP_DEFER_ACCEPT of tcp(7)): for services in which the client speaks first.
	Defer bool
}

// String returns the rule in the form that ParseRule reads, with host port and
// protocol always written out: "8080:80/tcp", "0:53/udp",
// "[::1]%lo:8000-8010:[fd00::7]:80-90/tcp,defer".
func (r Rule) String() string {
	var b strings.Builder
	if r.Host.IsValid() {
		b.WriteString(bracket(r.Host))
	}
	if r.Interface != "" {
		b.WriteString("%" + r.Interface)
	}
	if b.Len() > 0 {
		b.WriteByte(':')
	}
	if r.HostPort == 0 {
		b.WriteString("0:")
	} else {
		b.WriteString(portRange(r.HostPort, r.Count) + ":")
	}
	if r.Container.IsValid() {
		b.WriteString(bracket(r.Container) + ":")
	}
	b.WriteString(portRange(r.ContainerPort, r.Count) + "/" + string(r.Proto))
	if r.Loopback {
		b.WriteString("," + optLoopback)
	}
	if r.Defer {
		b.WriteString("," + optDefer)
	}
	return b.String()
}

// Check returns an error, which is ErrRule, if there can be no such rule. ParseRule
// returns none that Check refuses.
func (r Rule) Check() error {
	if why := r.wrong(); why != "" {
		return &failure{kind: ErrRule, text: "rule " + quote(r.String()) + ": " + why}
	}
	return nil
}

// wrong says what is, and what to do.
func (r Rule) wrong() string {
	if why := wrongHost(r.Host, r.Interface); why != "" {
		return why
	}
	if why := wrongContainer(r.Container); why != "" {
		return why
	}
	switch {
	case r.Proto != TCP && r.Proto != UDP:
		return wrongProto(string(r.Proto))
	case r.Count == 0:
		return "it is for no port: give a count of at least 1"
	case r.ContainerPort == 0:
		return "the container's port is 0: want the one at which the service listens"
	case int(r.ContainerPort)+int(r.Count)-1 > maxPort:
		return "the container's ports go beyond 65535"
	case r.HostPort != 0 && int(r.HostPort)+int(r.Count)-1 > maxPort:
		return "the host's ports go beyond 65535"
	case r.Loopback && r.Container.IsValid():
		return "loopback means the container's loopback address: leave out the address " + r.Container.String() + ", or loopback"
	case r.Defer && r.Proto == UDP:
		return "defer is for tcp: udp has no connections"
	}
	return ""
}

// unfit says what keeps a from being anybody's address in a rule. The zero Addr
// is fit.
func unfit(a netip.Addr) string {
	zone := printable(a.Zone())
	a = a.WithZone("")
	switch {
	case a.Is4In6():
		return a.String() + " is an IPv4 address in IPv6 notation: write it as " + a.Unmap().String()
	case zone != "":
		return a.String() + " has a zone: write the interface behind the address, as in " + bracket(a) + "%" + zone
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return a.String() + " is a group of hosts: want an address of one"
	}
	return ""
}

func wrongHost(a netip.Addr, ifname string) string {
	if why := unfit(a); why != "" {
		return "host address " + why
	}
	if why := wrongInterface(ifname); why != "" {
		return why
	}
	if a.Is6() && a.IsLinkLocalUnicast() && ifname == "" {
		return "host address " + a.String() + " is of one link only: name the interface, as in " + bracket(a) + "%eth0"
	}
	return ""
}

func wrongContainer(a netip.Addr) string {
	switch why := unfit(a); {
	case why != "":
		return "container address " + why
	case a.IsLoopback():
		return "container address " + a.String() + " is its loopback: leave it out and append ," + optLoopback
	case a.IsValid() && a.IsUnspecified():
		return "container address " + a.String() + " is none: leave it out for the container's own"
	}
	return ""
}

// wrongInterface knows the kernel's rules for names (net/core/dev.c,
// dev_valid_name), and wants letters that can be read and written in a rule.
func wrongInterface(name string) string {
	if len(name) > maxInterface {
		return "the interface's name has more than " + strconv.Itoa(maxInterface) + " bytes"
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || strings.IndexByte("/:%,[]", c) >= 0 {
			return "interface " + quote(name) + " cannot exist, or not be written in a rule: leave it out or rename it"
		}
	}
	if name == "." || name == ".." {
		return "interface " + quote(name) + " cannot exist"
	}
	return ""
}

// outOfPlan says what is wrong with a rule that Check accepts in this plan.
func (r Rule) outOfPlan(p tap.Plan) string {
	a := r.Container
	switch {
	case !a.IsValid():
		return ""
	case p.Of(a).Ours(a) || a == p.RouterLinkLocal():
		return "container address " + a.String() + " is slipway's own: leave it out for the container's"
	case !p.Of(a).Enabled():
		return "container address " + a.String() + " is of a family that the container does not have"
	}
	return ""
}

// one returns the rule for the i-th port alone.
func (r Rule) one(i int) Rule {
	if r.HostPort != 0 {
		r.HostPort += uint16(i)
	}
	r.ContainerPort += uint16(i)
	r.Count = 1
	return r
}

// bracket writes an address so that a port can follow.
func bracket(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

func portRange(first, count uint16) string {
	s := strconv.Itoa(int(first))
	if count > 1 {
		s += "-" + strconv.Itoa(int(first)+int(count)-1)
	}
	return s
}

// printable makes text of somebody else's fit for the middle of a message.
func printable(s string) string {
	s = quote(s)
	return s[1 : len(s)-1]
}

// quote makes text of somebody else's fit for one line of a message.
func quote(s string) string {
	if len(s) > maxQuoted {
		s = s[:maxQuoted] + "…"
	}
	return strconv.Quote(s)
}
