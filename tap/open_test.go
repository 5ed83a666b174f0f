// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"testing"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

func TestOpenTrial(t *testing.T) {
	c := taptest.NewContainer(t)
	d, err := tap.Open(tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(d.Offload(), d.MAC(), d.MTU(), d.IPv6Err())
	t.Log(c.Exec(t, "ip", "addr"))
	t.Log(c.Exec(t, "sh", "-c", "ip route; ip -6 route"))
	d.Close()
}
