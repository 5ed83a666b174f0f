// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/slipway-net/slipway/cni-plugin/helper"
	"github.com/slipway-net/slipway/cni-plugin/inside"
	"github.com/slipway-net/slipway/cni-plugin/netconf"
	"github.com/slipway-net/slipway/cni-plugin/store"
	"github.com/slipway-net/slipway/portfwd/client"
)

// answerTimeout is how long the helper may take to say that it carries traffic. Its own
// limit is 2 s.
const answerTimeout = 5 * time.Second

// check is CHECK.
func check(ctx context.Context, args *skel.CmdArgs) error {
	conf, err := netconf.Load(args.StdinData, args.Args)
	if err != nil {
		return err
	}
	ns, err := identify(args)
	if err != nil {
		return err
	}
	if conf.IPAM.Type != "" {
		if err := invoke.DelegateCheck(ctx, conf.IPAM.Type, args.StdinData, nil); err != nil {
			return fmt.Errorf("have ipam %s check the addresses: %w", conf.IPAM.Type, err)
		}
	}
	state, err := store.Dir(conf.StateDir)
	if err != nil {
		return err
	}
	if err := checkHelper(ctx, state, conf, args, ns); err != nil {
		return err
	}
	return checkInside(conf, args)
}

// checkHelper reports a helper that does not carry the container's traffic.
func checkHelper(ctx context.Context, state string, conf *netconf.Conf, args *skel.CmdArgs, ns namespace) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	entry, err := store.Find(ctx, state, conf.Name, args.ContainerID, args.IfName)
	if err != nil {
		return err
	}
	gone := func(log string, format string, words ...any) error {
		return types.NewError(codeHelperGone, fmt.Sprintf(format, words...), log)
	}
	if entry == nil {
		return gone("", "%s of container %s is not attached to network %s, or its helper has ended", args.IfName, args.ContainerID, conf.Name)
	}
	defer entry.Close()
	running, err := helper.Find(entry.PidFile())
	if err != nil {
		return err
	}
	if running == nil {
		return gone(helper.LogTail(entry.Log()), "the helper of %s of container %s does not run; its log is %s", args.IfName, args.ContainerID, entry.Log())
	}
	defer running.Close()
	if i := entry.Info(); i.NSDev != ns.dev || i.NSIno != ns.ino {
		return types.NewError(codeNotAsMade, fmt.Sprintf("%s is another network namespace than the one that was attached", args.Netns), "")
	}
	ask, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	body, err := client.Dial(entry.API()).Get(ask, "health")
	if err != nil {
		return gone(helper.LogTail(entry.Log()), "the helper, process %d, does not answer: %v", running.PID, err)
	}
	return body.Close()
}

// checkInside reports what is missing in the container of what we made there, as the
// result of ADD tells it: plugins behind us may have changed more.
func checkInside(conf *netconf.Conf, args *skel.CmdArgs) error {
	bad := func(format string, words ...any) error {
		return types.NewError(codeNotAsMade, fmt.Sprintf(format, words...), "")
	}
	view, err := inside.Look(args.Netns)
	if err != nil {
		return err
	}
	link := view.Link(args.IfName)
	if link == nil {
		return bad("there is no interface %s in %s", args.IfName, args.Netns)
	}
	if !link.Up {
		return bad("interface %s in %s is down", args.IfName, args.Netns)
	}
	if len(conf.RawPrev) == 0 {
		return nil // cnitool without a cache; the specification has runtimes give it
	}
	if err := version.ParsePrevResult(&conf.PluginConf); err != nil {
		return types.NewError(types.ErrDecodingFailure, fmt.Sprintf("prevResult: %v", err), "")
	}
	prev, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, fmt.Sprintf("prevResult: %v", err), "")
	}
	index := slices.IndexFunc(prev.Interfaces, func(i *current.Interface) bool { return i.Name == args.IfName && i.Sandbox != "" })
	if index < 0 {
		return bad("prevResult has no interface %s: is it that of another attachment?", args.IfName)
	}
	if mac := prev.Interfaces[index].Mac; mac != "" && mac != link.MAC.String() {
		return bad("interface %s has the hardware address %s, not %s", args.IfName, link.MAC, mac)
	}
	return checkAddresses(prev, index, view, link, bad)
}

// checkAddresses compares addresses of the interface and routes through it.
func checkAddresses(prev *current.Result, index int, view *inside.View, link *inside.Link, bad func(string, ...any) error) error {
	var gateways []netip.Addr
	for _, ip := range prev.IPs {
		if ip.Interface == nil || *ip.Interface != index {
			continue
		}
		if p, ok := prefixOf(ip.Address); !ok || !slices.Contains(link.Addrs, p) {
			return bad("interface %s has not the address %s", link.Name, ip.Address.String())
		}
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
			gateways = append(gateways, gw.Unmap())
		}
	}
	for _, r := range prev.Routes {
		gw, ok := netip.AddrFromSlice(r.GW)
		if gw = gw.Unmap(); !ok || !slices.Contains(gateways, gw) {
			continue // somebody else's
		}
		to, _ := prefixOf(r.Dst)
		if !slices.ContainsFunc(view.Routes, func(have inside.Route) bool { return have.To == to && have.By == gw }) {
			return bad("there is no route to %s via %s", to, gw)
		}
	}
	return nil
}
