// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"
)

// An iperfCase lets iperf3 measure what a throughputCase measures: the outside
// check on the bench's own sender and receiver, at one stream.
type iperfCase struct {
	up bool
}

// Name implements Case.
func (c iperfCase) Name() string { return iperfPrefix + direction(c.up) + "/1" }

// Wide implements Case.
func (iperfCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (iperfCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (iperfCase) Metrics() []Metric {
	return []Metric{{Name: "rate", Unit: "Gbit/s", Higher: true, Bounded: true}}
}

// price implements priced.
func (iperfCase) price(p Plan) time.Duration {
	return time.Duration(iperfOmit+iperfSeconds(p.Window)) * time.Second
}

func (c iperfCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	if err := b.peer.call(ctx, 0, "iperf.serve", struct{}{}, nil); err != nil {
		return nil, nil, err
	}
	before, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	var rate float64
	args := iperfArgs{Addr: b.addr, Streams: 1, Up: c.up, Window: b.plan.Window}
	if err := b.container.call(ctx, c.price(b.plan)+iperfPatience, "iperf.run", args, &rate); err != nil {
		return nil, nil, err
	}
	after, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	if rate == 0 {
		return nil, nil, errors.New("iperf3 received nothing")
	}
	v := map[string]float64{"rate": rate / 1e9}
	if b.helper != nil {
		v[helperCPUKey] = after - before
	}
	return v, nil, nil
}
