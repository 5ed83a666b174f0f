// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// loopbackPrefix begins the names of the cases whose server listens on the host's
// loopback only, where the subject lets the container reach it.
const loopbackPrefix = "loopback/"

// The gateways of the plan that slirp4netns and slipway share.
const (
	planGateway4 = "10.0.2.2"
	planGateway6 = "fd00::2"
	// rootlesskitGateway4 is where RootlessKit puts the gateway of gvisor-tap-vsock.
	rootlesskitGateway4 = "10.0.2.1"
)

// A loopbackCase does what another case does, but to the host's loopback.
type loopbackCase struct {
	networkCase
	name string // after the prefix
}

// Name implements Case.
func (c loopbackCase) Name() string { return loopbackPrefix + c.name }

// Wide implements Case.
func (loopbackCase) Wide() bool { return false }

// price implements priced.
func (c loopbackCase) price(p Plan) time.Duration { return p.price(c.networkCase) }

// loopbackCases returns the cases with the host's loopback as their target.
func loopbackCases() []Case {
	return []Case{
		loopbackCase{throughputCase{streams: 1, up: true}, "throughput/up"},
		loopbackCase{throughputCase{streams: 1}, "throughput/down"},
		loopbackCase{connectCase{atOnce: 16}, "connect/16"},
		loopbackCase{roundTripCase{size: 1}, "roundtrip/1"},
	}
}

// toLoopback reports whether the case's server is on the host's loopback.
func toLoopback(c Case) bool { return c != nil && strings.HasPrefix(c.Name(), loopbackPrefix) }

// loopbackAddr returns the address at which the container of the tool reaches the
// host's loopback of the family, 4 or 6:
//
//   - slirp4netns: its gateway, unless --disable-host-loopback is given (slirp4netns(1));
//   - pasta: the host's own gateway, unless --no-map-gw is given (passt(1), --map-host-loopback);
//   - slipway: what --host-loopback says, here its gateway;
//   - direct: the loopback itself.
func loopbackAddr(tool string, family int) (netip.Addr, error) {
	pair, ok := map[string][2]string{
		directName:    {"127.0.0.1", "::1"},
		"slirp4netns": {planGateway4, planGateway6},
		"pasta":       {peerAddr4, peerAddr6},
		"slipway":     {planGateway4, planGateway6},
		// RootlessKit's flag is --disable-host-loopback with either network.
		"rootlesskit":      {planGateway4, ""},
		"gvisor-tap-vsock": {rootlesskitGateway4, ""},
	}[tool]
	to := pair[0]
	if family == 6 {
		to = pair[1]
	}
	if !ok || to == "" {
		return netip.Addr{}, fmt.Errorf("%s has no way from the container to the host's loopback by IPv%d that this bench knows", tool, family)
	}
	return netip.ParseAddr(to)
}
