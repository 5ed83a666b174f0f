// SPDX-License-Identifier: Apache-2.0

package portapi

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/portfwd"
)

// A Spec is one port as RootlessKit's API writes it (PortSpec of its openapi.yaml),
// with what slipway has besides: the parent is the host, the child the container.
type Spec struct {
	// Proto is one of Protos. With tcp and udp an empty or unspecified ParentIP
	// means every address of both families, as for RootlessKit; with a digit behind,
	// those of one.
	Proto    string `json:"proto"`
	ParentIP string `json:"parentIP"`
	// ParentPort 0 lets the kernel choose; the reply has what it chose.
	ParentPort int `json:"parentPort"`
	// ChildIP empty means the container's address of the plan. A loopback address
	// means the container's loopback.
	ChildIP   string `json:"childIP"`
	ChildPort int    `json:"childPort"`

	// Interface, Loopback and Defer are those of portfwd.Rule.
	Interface string `json:"interface,omitempty"`
	Loopback  bool   `json:"loopback,omitempty"`
	Defer     bool   `json:"defer,omitempty"`
}

// Protos returns the protocols that a Spec can name.
func Protos() []string { return []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"} }

// anyOf has the unspecified address by the digit behind a protocol; the zero Addr is
// for both families.
func anyOf(digit string) netip.Addr {
	switch digit {
	case "4":
		return netip.IPv4Unspecified()
	case "6":
		return netip.IPv6Unspecified()
	default:
		return netip.Addr{}
	}
}

// Rule returns the rule that s stands for.
func (s Spec) Rule() (portfwd.Rule, error) {
	r := portfwd.Rule{Interface: s.Interface, Count: 1, Loopback: s.Loopback, Defer: s.Defer}
	if !slices.Contains(Protos(), s.Proto) {
		return r, fmt.Errorf("proto %q: want one of %s", s.Proto, strings.Join(Protos(), ", "))
	}
	name := strings.TrimRight(s.Proto, "46")
	r.Proto = portfwd.Proto(name)
	var err error
	if r.Host, err = s.host(s.Proto[len(name):]); err != nil {
		return r, err
	}
	if r.Container, err = parseAddr("childIP", s.ChildIP); err != nil {
		return r, err
	}
	if r.Container.IsLoopback() {
		r.Container, r.Loopback = netip.Addr{}, true
	}
	if s.ParentPort < 0 || s.ParentPort > math.MaxUint16 {
		return r, fmt.Errorf("parentPort %d: want a port, 1 to 65535, or 0 to have one chosen", s.ParentPort)
	}
	if s.ChildPort < 1 || s.ChildPort > math.MaxUint16 {
		return r, fmt.Errorf("childPort %d: want a port, 1 to 65535", s.ChildPort)
	}
	r.HostPort, r.ContainerPort = uint16(s.ParentPort), uint16(s.ChildPort)
	return r, r.Check()
}

// host returns the address to publish at, for a protocol with the digit.
func (s Spec) host(digit string) (netip.Addr, error) {
	a, err := parseAddr("parentIP", s.ParentIP)
	if err != nil || !a.IsValid() || digit == "" && a.IsUnspecified() {
		return anyOf(digit), err
	}
	if digit != "" && a.Is4() != anyOf(digit).Is4() {
		return a, fmt.Errorf("parentIP %s: it is no address for %s", a, s.Proto)
	}
	return a, nil
}

// parseAddr reads an address; empty gives the zero Addr.
func parseAddr(field, s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s %q: want an IP address", field, s)
	}
	if a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf(`%s %q: a zone has no meaning here: name the interface as "interface"`, field, s)
	}
	return a.Unmap(), nil
}

// specOf returns a port as a Spec that stands for it.
func specOf(p portfwd.Port) Spec {
	s := Spec{
		Proto: string(p.Proto), ParentPort: int(p.Host.Port()), ChildPort: int(p.Container.Port()),
		Interface: p.Interface, Loopback: p.Loopback, Defer: p.Defer,
	}
	if a := p.Host.Addr(); a.IsValid() {
		s.ParentIP = a.String()
		if a.IsUnspecified() { // without the digit it would be both families
			s.Proto += map[bool]string{true: "4", false: "6"}[a.Is4()]
		}
	}
	if a := p.Container.Addr(); a.IsValid() {
		s.ChildIP = a.String()
	}
	return s
}
