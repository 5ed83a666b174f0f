// SPDX-License-Identifier: Apache-2.0

package helper

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/slipway-net/slipway/cni-plugin/netconf"
	"github.com/slipway-net/slipway/tap"
)

// An Attachment is what a helper is to make. MAC is the container's.
type Attachment struct {
	IfName string
	NetNS  string
	MAC    string
	MTU    int
	Plan   tap.Plan
	Routes []netip.Prefix
	Conf   *netconf.Conf
}

// Args returns the arguments of `slipway attach` but for the namespace. Anybody can type
// them.
func (a Attachment) Args() []string {
	args := []string{"--beside", "--ifname", a.IfName, "--macaddress", a.MAC, "--mtu", strconv.Itoa(a.MTU)}
	add := func(flag string, values ...string) {
		for _, v := range values {
			args = append(args, flag, v)
		}
	}
	add("--cidr", none(a.Plan.V4.Prefix))
	if !a.Plan.V6.Enabled() {
		args = append(args, "--ipv6=false")
	} else {
		add("--cidr6", a.Plan.V6.Prefix.String())
	}
	for _, f := range a.Plan.Families() {
		add("--address", f.Container.String())
		add("--gateway", f.Gateway.String())
		add("--dns-address", f.DNS.String())
		if a.Conf.Loopback {
			add("--host-loopback", f.Gateway.String())
		}
	}
	if len(a.Routes) == 0 {
		add("--route", "none")
	}
	for _, r := range a.Routes {
		add("--route", r.String())
	}
	c := a.Conf
	if c.Publishes() {
		add("--publish", netconf.PublishRules(c.Ports)...)
	}
	add("--host-loopback", c.Services...)
	add("--host-socket", c.Sockets...)
	add("--dns-name", c.Aliases...)
	add("--allow", c.Allow...)
	add("--deny", c.Deny...)
	add("--outbound-addr", c.Outbound...)
	if r := c.Rate; r != nil {
		add("--rate-in", rate(r.IngressRate, r.IngressBurst)...)
		add("--rate-out", rate(r.EgressRate, r.EgressBurst)...)
	}
	switch servers := strings.Join(c.Forward, ","); servers {
	case "", netconf.Host:
	case netconf.Off:
		add("--dns", "none")
	default:
		add("--dns", servers)
	}
	for flag, value := range map[string]string{"--accel": c.Accel, "--sandbox": c.Sandbox, "--log-level": c.LogLevel} {
		if value != "" {
			add(flag, value)
		}
	}
	return args
}

// rate returns a rate in the notation of the flags, nothing where there is none.
func rate(bits, burst uint64) []string {
	switch {
	case bits == 0:
		return nil
	case burst == 0:
		return []string{strconv.FormatUint(bits, 10)}
	}
	return []string{fmt.Sprintf("%d:%d", bits, burst)}
}

func none(p netip.Prefix) string {
	if !p.IsValid() {
		return "none"
	}
	return p.String()
}
