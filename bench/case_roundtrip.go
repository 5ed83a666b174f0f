// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
)

// A roundTripCase plays ping-pong on one TCP connection.
type roundTripCase struct {
	size int // bytes each way
}

// Name implements Case.
func (c roundTripCase) Name() string { return fmt.Sprintf("tcp/roundtrip/%d", c.size) }

// Wide implements Case.
func (roundTripCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (roundTripCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (roundTripCase) Metrics() []Metric {
	return []Metric{
		{Name: "p50", Unit: "µs", Bounded: true},
		{Name: "p99", Unit: "µs"},
		{Name: "p999", Unit: "µs"},
	}
}

func (c roundTripCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	var r latencies
	args := roundTripArgs{Addr: b.addr, Size: c.size, Warmup: b.plan.Warmup, Window: b.plan.Window}
	work := b.plan.Warmup + b.plan.Window + dialTimeout
	if err := b.container.call(ctx, work, "roundtrip", args, &r); err != nil {
		return nil, nil, err
	}
	if r.Count == 0 {
		return nil, r, errors.New("no round trip was completed in the window")
	}
	v, err := r.values("")
	return v, r, err
}
