// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errCongestion marks a congestion control that could not be set.
var errCongestion = errors.New("set congestion control")

// setCongestion makes name the TCP congestion control of new sockets in the
// calling thread's network namespace.
//
// Outside the machine's first namespace the kernel takes only algorithms that are
// in net.ipv4.tcp_allowed_congestion_control as the default of a namespace
// (net/ipv4/tcp_cong.c, tcp_set_default_congestion_control), and a plain user may
// not extend that list. A route may name any of them (ip-route(8), congctl), so
// where the default is refused all routes get it.
func setCongestion(name string) error {
	err := writeSysctl("net/ipv4/tcp_congestion_control", name)
	switch {
	case err == nil:
		err = setRouteCongestion("")
	case errors.Is(err, unix.EPERM):
		err = setRouteCongestion(name)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errCongestion, err)
	}
	return nil
}

// setRouteCongestion sets the congestion control of every route that TCP can use,
// the local ones included, since a connection to oneself takes them.
func setRouteCongestion(name string) error {
	all := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, all, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Congctl == name || (r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_LOCAL) {
			continue
		}
		r.Congctl = name
		// States that the kernel reports but does not take back (net/ipv4/fib_semantics.c):
		// a veth has no carrier for a moment after it was brought up.
		r.Flags &^= unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
		if err := netlink.RouteReplace(&r); err != nil {
			return fmt.Errorf("set congestion control %q on route %s: %w", name, r, err)
		}
	}
	return nil
}

// congestionOf returns the congestion control of a socket.
func congestionOf(fd int) (string, error) {
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return "", fmt.Errorf("read congestion control of a socket: %w", err)
	}
	return name, nil
}
