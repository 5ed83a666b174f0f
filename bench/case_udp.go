// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// The offered load rises from a first rate by udpFactor in udpSteps steps, the same
// for every subject, so that the last shows what an overload does to each. Then
// udpRefine steps narrow down the highest load that comes through clean.
const (
	udpFactor = 2
	udpSteps  = 6
	udpRefine = 2
	udpClean  = 1 // per cent: a loss that still counts as none
	// First rates, in datagrams per second. Large datagrams travel in fragments.
	udpFirstRate      = 25e3 // up to 800 thousand
	udpFirstRateLarge = 5e3  // up to 160 thousand
)

// udpStepMin is the shortest time for which one rate is offered, udpStepShare its
// part of the plan's window otherwise.
const (
	udpStepMin   = 60 * time.Millisecond
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
		{Name: "clean", Unit: "k/s, loss < 1 %", Higher: true},
		{Name: "overload", Unit: "k/s, at the highest load", Higher: true},
		{Name: "loss", Unit: "%, at the highest load", Detail: true},
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
	best, clean, last := c.judge(steps)
	if best == 0 {
		return nil, steps, errors.New("no datagram arrived")
	}
	v := map[string]float64{"delivered": best / 1e3, "clean": clean / 1e3, "overload": last.Delivered / 1e3, "loss": last.Loss}
	if b.helper != nil {
		v[helperCPUKey] = after - before
	}
	return v, steps, nil
}

// judge returns the best delivered rate, the best with less than udpClean of loss,
// and the step of the highest offered load.
func (c udpCase) judge(steps []udpStep) (best, clean float64, highest udpStep) {
	for _, s := range steps {
		best = max(best, s.Delivered)
		if s.Loss < udpClean {
			clean = max(clean, s.Delivered)
		}
		if s.Offered > highest.Offered {
			highest = s
		}
	}
	return best, clean, highest
}

// climb offers one rate after the other.
func (c udpCase) climb(ctx context.Context, b *bout) ([]udpStep, error) {
	var steps []udpStep
	for len(steps) < udpSteps+udpRefine {
		rate := c.nextRate(steps)
		if rate == 0 {
			break
		}
		s, err := c.offer(ctx, b, uint64(len(steps)+1), rate)
		if err != nil {
			return steps, err
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// nextRate is the load to offer after the steps, 0 where there is none left to try.
func (c udpCase) nextRate(steps []udpStep) float64 {
	if len(steps) < udpSteps {
		return c.firstRate() * math.Pow(udpFactor, float64(len(steps)))
	}
	clean, lossy := 0.0, 0.0 // the highest clean load, and the lowest above it that is not
	for _, s := range steps {
		if s.Loss < udpClean {
			clean = max(clean, s.Offered)
		}
	}
	for _, s := range steps {
		if s.Offered > clean && (lossy == 0 || s.Offered < lossy) {
			lossy = s.Offered
		}
	}
	switch {
	case lossy == 0:
		return 0
	case clean == 0: // all are lossy
		return lossy / udpFactor
	}
	return math.Sqrt(clean * lossy)
}

func (c udpCase) firstRate() float64 {
	if c.size > vethMTU {
		return udpFirstRateLarge
	}
	return udpFirstRate
}

// stepWindow is how long one rate is offered.
func stepWindow(p Plan) time.Duration { return max(p.Window/udpStepShare, udpStepMin) }

// price implements priced.
func (udpCase) price(p Plan) time.Duration {
	return (udpSteps + udpRefine) * (stepWindow(p) + 2*udpQuiet)
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
	window := stepWindow(b.plan)
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
