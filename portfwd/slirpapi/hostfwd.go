// SPDX-License-Identifier: Apache-2.0

package slirpapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/slipway-net/slipway/portfwd"
)

const maxPort = 65535

// The replies.
type (
	errorReply struct {
		Error errorDesc `json:"error"`
	}
	errorDesc struct {
		Desc string `json:"desc"`
	}
	addReply struct {
		Return added `json:"return"`
	}
	added struct {
		ID int `json:"id"`
		// HostPort is there where the request left it to the kernel.
		HostPort uint16 `json:"host_port,omitempty"`
	}
	removeReply struct {
		Return struct{} `json:"return"`
	}
	// listReply has the entries where the manual says, and where slirp4netns has them.
	listReply struct {
		Return  entries `json:"return"`
		Entries []entry `json:"entries"`
	}
	entries struct {
		Entries []entry `json:"entries"`
	}
	entry struct {
		ID        int        `json:"id"`
		Proto     string     `json:"proto"`
		HostAddr  netip.Addr `json:"host_addr"`
		HostPort  uint16     `json:"host_port"`
		GuestAddr netip.Addr `json:"guest_addr"`
		GuestPort uint16     `json:"guest_port"`
	}
)

// execute does what a request asks for and returns the reply.
func (s *Server) execute(ctx context.Context, req request) (any, error) {
	switch req.execute {
	case "add_hostfwd":
		return s.add(ctx, req.arguments)
	case "list_hostfwd":
		return s.list(), nil
	case "remove_hostfwd":
		return s.remove(ctx, req.arguments)
	}
	return nil, errUnknown
}

// add is add_hostfwd.
func (s *Server) add(ctx context.Context, args arguments) (any, error) {
	rule, bad := ruleOf(args)
	if bad != "" {
		return nil, errors.New("bad request: add_hostfwd: bad arguments." + bad)
	}
	ports, err := s.cfg.Ports.Add(ctx, []portfwd.Rule{rule})
	if err != nil {
		return nil, fmt.Errorf("bad request: add_hostfwd: slirp_add_hostfwd failed: %w", err)
	}
	reply := addReply{added{ID: ports[0].ID}}
	if rule.HostPort == 0 {
		reply.Return.HostPort = ports[0].Host.Port()
	}
	return reply, nil
}

// protos are the names of protocols, with the family that they are for alone: its
// unspecified address, the zero Addr for the one that host_addr is of.
func protos() map[string]struct {
	proto portfwd.Proto
	any   netip.Addr
} {
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	return map[string]struct {
		proto portfwd.Proto
		any   netip.Addr
	}{
		"tcp": {portfwd.TCP, netip.Addr{}}, "tcp4": {portfwd.TCP, any4}, "tcp6": {portfwd.TCP, any6},
		"udp": {portfwd.UDP, netip.Addr{}}, "udp4": {portfwd.UDP, any4}, "udp6": {portfwd.UDP, any6},
	}
}

// ruleOf returns the rule that the arguments ask for, or the name of the first one, in
// slirp4netns' order, that makes no sense.
func ruleOf(args arguments) (rule portfwd.Rule, bad string) {
	name, ok := args.text("proto")
	p, known := protos()[name]
	if !ok || !known {
		return rule, "proto"
	}
	rule = portfwd.Rule{Proto: p.proto, Count: 1}
	if rule.Host, ok = args.addr("host_addr"); !ok {
		return rule, "host_addr"
	}
	switch {
	case !rule.Host.IsValid() && p.any.IsValid():
		rule.Host = p.any
	case !rule.Host.IsValid():
		rule.Host = netip.IPv4Unspecified() // as it was before there was any other
	case p.any.IsValid() && p.any.Is4() != rule.Host.Is4():
		return rule, "host_addr"
	}
	port, ok := args.integer("host_port", 0, maxPort)
	if !ok {
		return rule, "host_port"
	}
	rule.HostPort = uint16(port)
	// 0.0.0.0 is what clients write that have no address to give.
	if rule.Container, ok = args.addr("guest_addr"); !ok {
		return rule, "guest_addr"
	}
	if rule.Container.IsValid() && rule.Container.IsUnspecified() {
		rule.Container = netip.Addr{}
	}
	if port, ok = args.integer("guest_port", 1, maxPort); !ok {
		return rule, "guest_port"
	}
	rule.ContainerPort = uint16(port)
	return rule, ""
}

// list is list_hostfwd.
func (s *Server) list() any {
	list := []entry{}
	for _, p := range s.cfg.Ports.Ports() {
		e := entry{
			ID: p.ID, Proto: string(p.Proto),
			HostAddr: p.Host.Addr(), HostPort: p.Host.Port(),
			GuestAddr: p.Container.Addr(), GuestPort: p.Container.Port(),
		}
		if !e.HostAddr.IsValid() {
			e.HostAddr = netip.IPv6Unspecified() // published by other means, at both families
		}
		if !e.GuestAddr.IsValid() {
			e.GuestAddr = s.guest(e.HostAddr)
		}
		list = append(list, e)
	}
	return listReply{entries{list}, list}
}

// guest returns the container's address for clients of an address like host.
func (s *Server) guest(host netip.Addr) netip.Addr {
	f := s.cfg.Plan.Of(host)
	if !f.Enabled() {
		f = s.cfg.Plan.Families()[0] // a plan has one
	}
	return f.Container
}

// remove is remove_hostfwd. The connections that came by the port go on.
func (s *Server) remove(ctx context.Context, args arguments) (any, error) {
	id, ok := args.integer("id", 1, math.MaxInt32)
	if !ok {
		return nil, errors.New("bad request: remove_hostfwd: bad arguments.id")
	}
	err := s.cfg.Ports.Remove(ctx, []int{id}, false)
	if errors.Is(err, portfwd.ErrNoPort) {
		return nil, fmt.Errorf("bad request: remove_hostfwd: bad arguments.id: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("bad request: remove_hostfwd: slirp_remove_hostfwd failed: %w", err)
	}
	return removeReply{}, nil
}
