// SPDX-License-Identifier: Apache-2.0

package neighbor_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack/neighbor"
	"github.com/slipway-net/slipway/tap"
)

var (
	ourMAC   = net.HardwareAddr{0x52, 0x55, 0x0a, 0, 2, 2}
	theirMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
)

func mustPlan(t testing.TB, cidr4, cidr6 string) tap.Plan {
	t.Helper()
	var p4, p6 netip.Prefix
	if cidr4 != "" {
		p4 = netip.MustParsePrefix(cidr4)
	}
	if cidr6 != "" {
		p6 = netip.MustParsePrefix(cidr6)
	}
	p, err := tap.NewPlan(p4, p6)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustNew(t testing.TB, c neighbor.Config) *neighbor.Responder {
	t.Helper()
	if c.Plan == (tap.Plan{}) {
		c.Plan = mustPlan(t, tap.DefaultCIDR4, tap.DefaultCIDR6)
	}
	c.MAC = ourMAC
	r, err := neighbor.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNewRefuses(t *testing.T) {
	both := mustPlan(t, tap.DefaultCIDR4, tap.DefaultCIDR6)
	only4 := mustPlan(t, tap.DefaultCIDR4, "")
	extra := func(p tap.Plan, a string) neighbor.Config {
		c := neighbor.Config{Plan: p, MAC: ourMAC, Extra: []netip.Addr{{}}}
		if a != "" {
			c.Extra[0] = netip.MustParseAddr(a)
		}
		return c
	}
	tests := []struct {
		name   string
		config neighbor.Config
	}{
		{"no hardware address", neighbor.Config{Plan: both}},
		{"multicast hardware address", neighbor.Config{Plan: both, MAC: net.HardwareAddr{1, 0, 0, 0, 0, 1}}},
		{"small MTU", neighbor.Config{Plan: both, MAC: ourMAC, MTU: 1279}},
		{"zero extra", extra(both, "")},
		{"container", extra(both, "10.0.2.100")},
		{"container v6", extra(both, "fd00::100")},
		{"multicast", extra(both, "224.0.0.1")},
		{"mapped", extra(both, "::ffff:10.0.2.9")},
		{"zone", extra(both, "fe80::9%tap0")},
		{"family off", extra(only4, "fd00::9")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := neighbor.New(tt.config); err == nil {
				t.Error("New succeeded, want an error")
			}
		})
	}
	if _, err := neighbor.New(neighbor.Config{Plan: only4, MAC: ourMAC, MTU: 576}); err != nil {
		t.Errorf("a small MTU without IPv6: %v", err)
	}
}
