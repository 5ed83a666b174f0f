// SPDX-License-Identifier: Apache-2.0

package neighbor_test

import (
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack/neighbor"
	"github.com/slipway-net/slipway/tap"
)

// TestARPShared answers for everybody in a network that the host is in, but for the
// container.
func TestARPShared(t *testing.T) {
	a := netip.MustParseAddr
	plan := tap.Plan{V4: tap.Family{
		Prefix: netip.MustParsePrefix("192.0.2.0/24"), Container: a("192.0.2.7"), Gateway: a("169.254.2.2"), Shared: true,
	}}
	r, err := neighbor.New(neighbor.Config{Plan: plan, MAC: plan.GatewayMAC()})
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]bool{
		"192.0.2.1": true, "192.0.2.99": true, "169.254.2.2": true,
		"192.0.2.7": false, "198.51.100.1": false, "169.254.2.3": false,
	} {
		if _, ok := r.ARP(whoHas("192.0.2.7", target)); ok != want {
			t.Errorf("who has %s: answered is %v, want %v", target, ok, want)
		}
	}
}
