// SPDX-License-Identifier: Apache-2.0

package slirp4netns

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
)

// Lengths of the network's prefix.
const (
	minPrefix = 1
	maxPrefix = 25
)

// maxSocketPath is the length of a path that no UNIX socket can have, in bytes
// (sun_path of unix(7), with its final zero).
const maxSocketPath = 108

// An Attachment is what a command line asks of a session.
type Attachment struct {
	// Config is the session's, without a Log. Where the target is no namespace its
	// Device is missing; see Options.OpenDevice.
	Config attach.Config
	// Warnings are more lines for standard output.
	Warnings []string
}

// Resolve returns what the options ask for. It looks up interfaces of the host. The
// error is an *Error.
func (o Options) Resolve() (Attachment, error) {
	var a Attachment
	var err error
	if len(o.APISocket) >= maxSocketPath {
		return a, refusef("the specified API socket path is too long (>= %d)", maxSocketPath)
	}
	if a.Config.Tap.Plan, err = o.plan(); err != nil {
		return a, err
	}
	if a.Config.Outbound, err = o.outbound(); err != nil {
		return a, err
	}
	if a.Config.Tap.MAC, err = parseMAC(o.MAC); err != nil {
		return a, err
	}
	if o.MTU < tap.MinMTU {
		return a, refusef("cannot set MTU: %d bytes are too few: want at least %d", o.MTU, tap.MinMTU)
	}
	if o.IPv6 && o.MTU < tap.MinMTU6 {
		a.Config.Tap.Plan.V6 = tap.Family{}
		a.Warnings = append(a.Warnings, fmt.Sprintf("WARNING: IPv6 is off: it needs an MTU of at least %d bytes", tap.MinMTU6))
	}
	o.tap(&a.Config)
	o.services(&a.Config)
	return a, nil
}

// plan returns the address plan.
func (o Options) plan() (tap.Plan, error) {
	cidr, err := parseCIDR(o.CIDR)
	if err != nil {
		return tap.Plan{}, err
	}
	var cidr6 netip.Prefix
	if o.IPv6 {
		cidr6 = netip.MustParsePrefix(tap.DefaultCIDR6)
	}
	p, err := tap.NewPlan(cidr, cidr6)
	if err != nil {
		return tap.Plan{}, refusef("invalid CIDR: %v", err)
	}
	return p, nil
}

// parseCIDR reads an IPv4 network.
func parseCIDR(s string) (netip.Prefix, error) {
	const octets, octetDigits, lengthDigits = 4, 3, 2
	addr, length, _ := strings.Cut(s, "/")
	if !allDigits(strings.Split(addr, "."), octets, octetDigits) || !allDigits([]string{length}, 1, lengthDigits) {
		return netip.Prefix{}, refusef("invalid CIDR: %s", s)
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Prefix{}, refusef("invalid network address: %s", addr)
	}
	bits, err := strconv.Atoi(length)
	if err != nil || bits < minPrefix || bits > maxPrefix {
		return netip.Prefix{}, refusef("prefix length needs to be %d-%d", minPrefix, maxPrefix)
	}
	p := netip.PrefixFrom(a, bits)
	if m := p.Masked(); m != p {
		return netip.Prefix{}, refusef("CIDR needs to be a network address like %s, not like %s", m, s)
	}
	return p, nil
}

// allDigits reports whether there are n words of 1 to most decimal digits.
func allDigits(words []string, n, most int) bool {
	for _, w := range words {
		if w == "" || len(w) > most || strings.Trim(w, "0123456789") != "" {
			return false
		}
	}
	return len(words) == n
}

// outbound returns where flows leave from. An address need not be the host's yet. An
// interface stands for the first address that it has now.
func (o Options) outbound() (netstack.Outbound, error) {
	var out netstack.Outbound
	var ok bool
	if out.Addr4, ok = sourceAddr(o.Outbound4, netip.Addr.Is4); !ok {
		return out, refusef("outbound-addr has to be valid ipv4 address or interface name.")
	}
	if out.Addr6, ok = sourceAddr(o.Outbound6, netip.Addr.Is6); !ok {
		return out, refusef("outbound-addr6 has to be valid ipv6 address or interface name.")
	}
	return out, nil
}

// sourceAddr returns the address of a family that s is, or that the interface s has;
// the zero Addr for nothing.
func sourceAddr(s string, family func(netip.Addr) bool) (netip.Addr, bool) {
	if s == "" {
		return netip.Addr{}, true
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a, family(a) && a.Zone() == "" && !a.Is4In6()
	}
	link, err := net.InterfaceByName(s)
	if err != nil {
		return netip.Addr{}, false
	}
	addrs, err := link.Addrs()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, n := range addrs {
		p, err := netip.ParsePrefix(n.String())
		if err == nil && family(p.Addr()) && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// parseMAC reads a hardware address; nil for none.
func parseMAC(s string) (net.HardwareAddr, error) {
	if s == "" {
		return nil, nil
	}
	const length, digits = 6, 2
	words := strings.Split(strings.ReplaceAll(s, "-", ":"), ":")
	mac := make(net.HardwareAddr, 0, length)
	for _, w := range words {
		// The width bounds the value, and a sign is no digit of it.
		v, err := strconv.ParseUint(w, 16, 8)
		if err != nil || len(w) > digits {
			break
		}
		mac = append(mac, byte(v))
	}
	if len(words) != length || len(mac) != length {
		return nil, refusef("\"%s\" is an invalid MAC address.\n"+
			"macaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated by a ':').", s)
	}
	return mac, nil
}

// tap says which tap to make.
func (o Options) tap(cfg *attach.Config) {
	cfg.Tap.Name = o.TapName
	cfg.Tap.Target = tap.Target{PID: o.PID, NetNS: o.NetNS, UserNS: o.UserNS}
	cfg.Tap.Pin = true
	cfg.Tap.Configure = o.Configure
	// Who configures the interface sets its MTU, too, to the one we are told.
	if o.Configure {
		cfg.Tap.MTU = o.MTU
	} else {
		cfg.MTU = o.MTU
	}
}

// services says what is offered at the addresses of the plan.
func (o Options) services(cfg *attach.Config) {
	cfg.MayLackDNS = true
	cfg.NoDNS = o.NoDNS
	// A service that is switched off is not there; one that is on has no other ports.
	cfg.Answers = map[policy.Reason]policy.Answer{
		policy.HostLoopbackOff: policy.AnswerNetUnreachable,
		policy.NoSuchService:   policy.AnswerNetUnreachable,
	}
	if o.NoDNS {
		cfg.Answers[policy.NoSuchService] = policy.AnswerSilence
	}
	if o.NoHostLoopback {
		return
	}
	for _, f := range cfg.Tap.Plan.Families() {
		cfg.HostLoopback = append(cfg.HostLoopback, policy.LoopbackAt{Addr: f.Gateway})
	}
}
