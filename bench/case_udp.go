// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The offered load rises from udpFirstRate by udpFactor until less than udpLost of
// it was delivered udpEnough times in a row, or udpMaxSteps are done. One bad step
// can be a hiccup of the machine; two mean that the peak lies behind.
const (
	udpFirstRate = 20e3 // datagrams per second
	udpFactor    = 2
	udpLost      = 0.5
	udpEnough    = 2
	udpMaxSteps  = 7 // up to 1.28 million per second
	udpClean     = 1 // per cent: a loss that still counts as none
)

// udpStepMin is the shortest time for which one rate is offered, udpStepShare its
// part of the plan's window otherwise.
const (
	udpStepMin   = 100 * time.Millisecond
	udpStepShare = 5
)

// A udpCase offers a rising load of datagrams on one flow.
type udpCase struct {
	size int // bytes of payload
	up   bool
}

// A udpStep is what became of one offered load.
type udpStep struct {
	Offered   float64 `json:"offered_pps"`
	Sent      float64 `json:"sent_pps"`
	Delivered float64 `json:"delivered_pps"`
	Loss      float64 `json:"loss_percent"`
}

// Name implements Case.
func (c udpCase) Name() string { return fmt.Sprintf("udp/%s/%d", direction(c.up), c.size) }

// Wide implements Case.
func (udpCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (udpCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (udpCase) Metrics() []Metric {
	return []Metric{
		{Name: "delivered", Unit: "k/s", Higher: true, Bounded: true},
		{Name: "clean", Unit: "k/s, loss ≤ 1 %", Higher: true, Detail: true},
		{Name: "loss", Unit: "% at the best rate", Detail: true},
	}
}

func (c udpCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	if err := b.peer.call(ctx, 0, "udp.open", udpOpenArgs{}, nil); err != nil {
		return nil, nil, err
	}
	hello := udpTries * udpHello
	if err := b.container.call(ctx, hello, "udp.open", udpOpenArgs{Addr: b.addr}, nil); err != nil {
		return nil, nil, err
	}
	before, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	steps, err := c.climb(ctx, b)
	if err != nil {
		return nil, steps, err
	}
	after, err := b.helperCPU()
	if err != nil {
		return nil, steps, err
	}
	var best udpStep
	clean := 0.0
	for _, s := range steps {
		if s.Delivered > best.Delivered {
			best = s
		}
		if s.Loss <= udpClean {
			clean = max(clean, s.Delivered)
		}
	}
	if best.Delivered == 0 {
		return nil, steps, errors.New("no datagram arrived")
	}
	v := map[string]float64{"delivered": best.Delivered / 1e3, "clean": clean / 1e3, "loss": best.Loss}
	if b.helper != nil {
		v[helperCPUKey] = after - before
	}
	return v, steps, nil
}

// climb offers one rate after the other.
func (c udpCase) climb(ctx context.Context, b *bout) ([]udpStep, error) {
	var steps []udpStep
	bad := 0
	for rate := udpFirstRate; len(steps) < udpMaxSteps && bad < udpEnough; rate *= udpFactor {
		s, err := c.offer(ctx, b, uint64(len(steps)+1), rate)
		if err != nil {
			return steps, err
		}
		steps = append(steps, s)
		bad++
		if s.Delivered >= rate*udpLost {
			bad = 0
		}
	}
	return steps, nil
}

// offer sends at one rate and counts what arrives.
func (c udpCase) offer(ctx context.Context, b *bout, run uint64, rate float64) (udpStep, error) {
	from, to := b.peer, b.container
	if c.up {
		from, to = to, from
	}
	if err := to.call(ctx, udpDrain, "udp.count", udpCountArgs{Next: run, Now: true}, nil); err != nil {
		return udpStep{}, err
	}
	window := max(b.plan.Window/udpStepShare, udpStepMin)
	var sent udpSendResult
	args := udpSendArgs{Run: run, Size: c.size, Rate: rate, Window: window}
	if err := from.call(ctx, window, "udp.send", args, &sent); err != nil {
		return udpStep{}, err
	}
	var got udpCountResult
	if err := to.call(ctx, udpDrain, "udp.count", udpCountArgs{}, &got); err != nil {
		return udpStep{}, err
	}
	if got.Count > sent.Sent {
		return udpStep{}, fmt.Errorf("%d datagrams arrived of %d sent", got.Count, sent.Sent)
	}
	s := udpStep{Offered: rate, Sent: float64(sent.Sent) / sent.Elapsed.Seconds()}
	// What was queued arrives after the last was sent: count over the longer time.
	s.Delivered = float64(got.Count) / max(sent.Elapsed, got.Span).Seconds()
	if sent.Sent > 0 {
		s.Loss = 100 * (1 - float64(got.Count)/float64(sent.Sent))
	}
	return s, nil
}
