// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/tap"
)

func defaultPlan(t testing.TB) tap.Plan {
	t.Helper()
	p, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
