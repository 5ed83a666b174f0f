// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"slices"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// BenchmarkADD attaches containers by libcni, as a runtime does, each one a fresh one that
// stands by itself, and detaches them. It reports the medians: a few that something else delayed
// are no matter.
func BenchmarkADD(b *testing.B) {
	n := newNetwork(b, "1.1.0", nil)
	var adds, dels []time.Duration
	for b.Loop() {
		b.StopTimer()
		a := n.attachment(attachtest.NewContainer(b), "eth0")
		b.StartTimer()
		began := time.Now()
		if _, err := a.tryAdd(b); err != nil {
			b.Fatal(describe(err))
		}
		added := time.Now()
		if err := a.del(b); err != nil {
			b.Fatal(describe(err))
		}
		adds, dels = append(adds, added.Sub(began)), append(dels, time.Since(added))
	}
	for what, times := range map[string][]time.Duration{"ADD": adds, "DEL": dels} {
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Microseconds())/1e3, what+"-ms")
	}
}
