// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/slipway-net/slipway/cni-plugin/helper"
	"github.com/slipway-net/slipway/cni-plugin/netconf"
	"github.com/slipway-net/slipway/portfwd/portapi"
)

// previous returns the result of the plugins before us, or an empty one. An interface of
// our name in it is an error: somebody has made it.
func previous(conf *netconf.Conf, ifname, netns string) (*current.Result, error) {
	if len(conf.RawPrev) == 0 || string(conf.RawPrev) == "null" {
		return &current.Result{}, nil
	}
	if err := version.ParsePrevResult(&conf.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("prevResult: %v", err), "")
	}
	prev, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("prevResult: %v", err), "")
	}
	for _, i := range prev.Interfaces {
		if i.Name == ifname && i.Sandbox == netns {
			return nil, types.NewError(codeInterfaceBusy, fmt.Sprintf("a plugin before this one has made %s in %s already", ifname, netns), "")
		}
	}
	return prev, nil
}

// result returns the previous result with the attachment behind it.
func result(prev *current.Result, leased *leases, host types.DNS, info portapi.Info, at helper.Attachment) *current.Result {
	r := prev
	r.CNIVersion = current.ImplementedSpecVersion
	index := len(r.Interfaces)
	r.Interfaces = append(r.Interfaces, &current.Interface{Name: at.IfName, Mac: at.MAC, Mtu: at.MTU, Sandbox: at.NetNS})
	var servers []string
	for _, n := range info.Plan {
		r.IPs = append(r.IPs, &current.IPConfig{
			Interface: current.Int(index),
			Address:   ipNet(netip.PrefixFrom(n.Container, n.CIDR.Bits())),
			Gateway:   net.IP(n.Gateway.AsSlice()),
		})
		for _, to := range at.Routes {
			if to.Addr().Is4() == n.Gateway.Is4() {
				r.Routes = append(r.Routes, &types.Route{Dst: ipNet(to), GW: net.IP(n.Gateway.AsSlice())})
			}
		}
		for _, a := range n.DNS {
			servers = append(servers, a.String())
		}
	}
	r.DNS = mergeDNS(r.DNS, at.Conf.DNS, leased.dns, host, servers)
	return r
}

// mergeDNS returns what the container is to resolve names by: what the configuration or
// the runtime says, else what the plugin for addresses says, else our own server; behind
// what the plugins before us said. The host's search domains and options, where they are
// asked for, come last.
func mergeDNS(prev, conf, leased, host types.DNS, ours []string) types.DNS {
	d := *prev.Copy()
	from := conf
	if len(from.Nameservers) == 0 {
		from.Nameservers = leased.Nameservers
	}
	if len(from.Nameservers) == 0 {
		from.Nameservers = ours
	}
	d.Nameservers = add1(d.Nameservers, from.Nameservers)
	for _, say := range []types.DNS{conf, leased, host} {
		d.Search = add1(d.Search, say.Search)
		d.Options = add1(d.Options, say.Options)
	}
	for _, domain := range []string{conf.Domain, leased.Domain} {
		if d.Domain == "" {
			d.Domain = domain
		}
	}
	return d
}

// add1 appends what is not there yet.
func add1(to, words []string) []string {
	for _, w := range words {
		if !slices.Contains(to, w) {
			to = append(to, w)
		}
	}
	return to
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
