// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/slipway-net/slipway/cni-plugin/netconf"
)

// leases are what a plugin for addresses has given. Without one there are none.
type leases struct {
	addresses []netconf.Lease
	routes    []netconf.Route
	dns       types.DNS
}

// lease asks the plugin for addresses, if the network has one.
func (a *adding) lease(ctx context.Context) (*leases, error) {
	if a.conf.IPAM.Type == "" {
		return &leases{}, nil
	}
	// Also where ADD failed: it may have failed half-way (SPEC.md, "Delegated plugins").
	a.undo = append(a.undo, func(ctx context.Context) {
		_ = invoke.DelegateDel(ctx, a.conf.IPAM.Type, a.args.StdinData, nil)
	})
	got, err := invoke.DelegateAdd(ctx, a.conf.IPAM.Type, a.args.StdinData, nil)
	if err != nil {
		return nil, fmt.Errorf("ask ipam %s for addresses: %w", a.conf.IPAM.Type, err)
	}
	res, err := current.NewResultFromResult(got)
	if err != nil {
		return nil, fmt.Errorf("read the result of ipam %s: %w", a.conf.IPAM.Type, err)
	}
	l := &leases{dns: res.DNS}
	for _, ip := range res.IPs {
		p, ok := prefixOf(ip.Address)
		if !ok {
			return nil, fmt.Errorf("ipam %s gave no address, but %v", a.conf.IPAM.Type, ip.Address)
		}
		gw, _ := netip.AddrFromSlice(ip.Gateway)
		l.addresses = append(l.addresses, netconf.Lease{Address: p, Gateway: gw.Unmap()})
	}
	if len(l.addresses) == 0 {
		return nil, fmt.Errorf("ipam %s gave no address", a.conf.IPAM.Type)
	}
	for _, r := range res.Routes {
		p, ok := prefixOf(r.Dst)
		if !ok {
			return nil, fmt.Errorf("ipam %s gave no route, but %v", a.conf.IPAM.Type, r.Dst)
		}
		gw, _ := netip.AddrFromSlice(r.GW)
		l.routes = append(l.routes, netconf.Route{Dst: p, GW: gw.Unmap()})
	}
	return l, nil
}
