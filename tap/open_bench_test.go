// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"testing"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// BenchmarkOpen pauses between rounds until the kernel has ended the namespace
// and the tap of the last one, as a new container would not meet those.
func BenchmarkOpen(b *testing.B) {
	for _, bb := range []struct {
		name string
		pin  bool
	}{{"moved", false}, {"pinned", true}} {
		b.Run(bb.name, func(b *testing.B) {
			c := taptest.NewContainer(b)
			cfg := tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(b), Pin: bb.pin}
			for b.Loop() {
				d, err := tap.Open(cfg)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				d.Close()
				c.Exec(b, "ip", "link")
				b.StartTimer()
			}
		})
	}
}
