// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// A runtimeConfig has what the runtime fills in for the capabilities that the
// configuration lists. What is there and not known is in others.
type runtimeConfig struct {
	Ports   []Port     `json:"portMappings"`
	IPs     []string   `json:"ips"`
	MAC     string     `json:"mac"`
	Rate    *Bandwidth `json:"bandwidth"`
	DNS     *dnsConfig `json:"dns"`
	Aliases aliases    `json:"aliases"`

	others []string // names
}

// A dnsConfig is the capability "dns".
type dnsConfig struct {
	Servers  []string `json:"servers"`
	Searches []string `json:"searches"`
	Options  []string `json:"options"`
}

// known are the capabilities that we have, and ignored those that are none of our
// business: the helper never joins the container's control group.
var known, ignored = []string{"portMappings", "ips", "mac", "bandwidth", "dns", "aliases"}, []string{"cgroupPath"}

// UnmarshalJSON implements json.Unmarshaler.
func (r *runtimeConfig) UnmarshalJSON(b []byte) error {
	type plain runtimeConfig
	if err := json.Unmarshal(b, (*plain)(r)); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for name := range all {
		// What runtimes tell for their own sake has the name of a domain, such as
		// io.kubernetes.cri.pod-annotations.
		if !slices.Contains(known, name) && !slices.Contains(ignored, name) && !strings.Contains(name, ".") {
			r.others = append(r.others, name)
		}
	}
	slices.Sort(r.others)
	return nil
}

// check reports a capability that we have not (CONVENTIONS.md: what was asked for and
// cannot be done is an error).
func (r *runtimeConfig) check() error {
	if len(r.others) > 0 {
		return unsupported("runtimeConfig", r.others[0], "there is no such capability; take it out of capabilities")
	}
	for _, p := range r.Ports {
		if err := p.check(); err != nil {
			return err
		}
	}
	return r.Rate.check()
}

// aliases are names of the container: a list, or, as Podman has it, the list of each
// network by name.
type aliases struct {
	names   []string
	network map[string][]string
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *aliases) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &a.names) == nil {
		return nil
	}
	return json.Unmarshal(b, &a.network)
}

func (a aliases) of(network string) []string { return append(a.names, a.network[network]...) }

// confArgs are the args of the configuration (CONVENTIONS.md).
type confArgs struct {
	CNI struct {
		IPs []string `json:"ips"`
		MAC string   `json:"mac"`
	} `json:"cni"`
}

// envArgs are those of CNI_ARGS that we know.
type envArgs struct {
	types.CommonArgs
	IP  types.UnmarshallableString
	MAC types.UnmarshallableString
}

// merge puts what was asked for the attachment into the configuration's own fields.
func (c *Conf) merge(args string) error {
	var env envArgs
	if err := types.LoadArgs(args, &env); err != nil {
		return fmt.Errorf("CNI_ARGS: %w", err)
	}
	for _, mac := range []string{c.Runtime.MAC, c.Args.CNI.MAC, string(env.MAC)} {
		if mac != "" {
			c.MAC = mac
			break
		}
	}
	if c.MAC != "" {
		mac, err := net.ParseMAC(c.MAC)
		if err != nil || len(mac) != macLen || mac[0]&1 != 0 {
			return fmt.Errorf("mac %q: want a unicast address such as 02:00:00:12:34:56", c.MAC)
		}
		c.MAC = mac.String()
	}
	ips := slices.Concat(c.Runtime.IPs, c.Args.CNI.IPs)
	if env.IP != "" && len(ips) == 0 {
		ips = []string{string(env.IP)}
	}
	if err := c.place(ips); err != nil {
		return err
	}
	c.Ports = append(c.Ports, c.Runtime.Ports...)
	c.Aliases = append(c.Aliases, c.Runtime.Aliases.of(c.Name)...)
	if c.Runtime.Rate != nil {
		c.Rate = c.Runtime.Rate
	}
	return c.mergeDNS()
}

// macLen is the length of a hardware address in bytes.
const macLen = 6

// place takes the addresses that were asked for, with or without a prefix length. With
// a network of its own for addresses, that has the say: see ipam.
func (c *Conf) place(ips []string) error {
	if c.IPAM.Type != "" {
		return nil
	}
	var had4, had6 bool
	for _, s := range ips {
		a, bits, err := parseIP(s)
		if err != nil {
			return err
		}
		at, subnet, had := &c.Address, &c.Subnet, &had4
		if a.Is6() {
			at, subnet, had = &c.Address6, &c.Subnet6, &had6
		}
		if *had {
			return fmt.Errorf("ips: %s: there is one of that family already, %s: ask for one of each", a, *at)
		}
		*at, *had = a, true
		if (*subnet == "" || *subnet == Auto) && bits.IsValid() {
			*subnet = bits.Masked().String()
		}
	}
	return nil
}

// parseIP reads an address with or without a prefix length.
func parseIP(s string) (netip.Addr, netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr(), p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, netip.Prefix{}, fmt.Errorf("ips: %q: want an IP address, perhaps with a prefix length", s)
	}
	return a.Unmap(), netip.Prefix{}, nil
}

// mergeDNS puts the capability "dns" in the place of the configuration's dns.
func (c *Conf) mergeDNS() error {
	if d := c.Runtime.DNS; d != nil {
		c.DNS.Nameservers = append(c.DNS.Nameservers[:0:0], d.Servers...)
		c.DNS.Search = append(c.DNS.Search[:0:0], d.Searches...)
		c.DNS.Options = append(c.DNS.Options[:0:0], d.Options...)
	}
	for _, s := range c.DNS.Nameservers {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("dns: nameserver %q: want an IP address", s)
		}
	}
	return nil
}
