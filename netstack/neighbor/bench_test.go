// SPDX-License-Identifier: Apache-2.0

package neighbor_test

import (
	"testing"

	"github.com/slipway-net/slipway/netstack/neighbor"
)

func BenchmarkARP(b *testing.B) {
	r := mustNew(b, neighbor.Config{Plan: mustPlan(b, "10.0.2.0/24", ""), MTU: 1500})
	ask := whoHas("10.0.2.100", "10.0.2.2")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.ARP(ask); !ok {
			b.Fatal("no reply")
		}
	}
}
