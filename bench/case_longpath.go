// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The long path: a hundred milliseconds there and back, as between continents.
const (
	longDelay  = 50 * time.Millisecond // one way
	longWarmup = 2 * time.Second       // slow start: a dozen round trips from 10 segments to 4 MB take 1.2 s
	longWindow = 3 * time.Second
	// longStreams together show what the relay carries: one stream is limited by
	// the send buffer (net.ipv4.tcp_wmem), for every subject alike.
	longStreams = 16
)

// Connections of a longConnectCase, in all and at any time.
const (
	longConns  = 64
	longAtOnce = 16
)

// longSlow is the price of more than one round trip's wait: a dozen for the
// streams, and what closes.
const longSlow = 12 * 2 * longDelay

// relayLateKey is the metric of the frames that the relay carried too late.
const relayLateKey = "relay_late"

// relayDoubt says what is odd about results of a path on which too many frames came
// too late; empty where nothing is. Others on the machine take the cores then, or
// the subject itself does.
func relayDoubt(late []float64) string {
	worst := Summarize(late).Max
	if worst < relayLateShare {
		return ""
	}
	return fmt.Sprintf("the relay had too little of the CPU: it carried up to %.0f %% of the frames more than %s late", worst, relayLate)
}

// A longThroughputCase moves bulk data over the long path.
type longThroughputCase struct {
	streams int
	up      bool
}

// Name implements Case.
func (c longThroughputCase) Name() string {
	return fmt.Sprintf("longpath/throughput/%s/%d", direction(c.up), c.streams)
}

// Wide implements Case.
func (longThroughputCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (longThroughputCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (longThroughputCase) Metrics() []Metric {
	return []Metric{
		{Name: "rate", Unit: "Gbit/s", Higher: true, Bounded: true},
		{Name: relayLateKey, Unit: "% of frames late at the relay", Detail: true},
	}
}

// delay implements delayed.
func (longThroughputCase) delay() time.Duration { return longDelay }

// rounds implements rare.
func (c longThroughputCase) rounds(p Plan) int {
	if c.streams > 1 {
		return 1
	}
	return p.Repeat
}

// price implements priced.
func (longThroughputCase) price(Plan) time.Duration { return longWarmup + longWindow + longSlow }

func (c longThroughputCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	long := *b
	long.plan.Warmup, long.plan.Window = longWarmup, longWindow
	v, detail, err := throughputCase(c).run(ctx, &long)
	r, relayErr := b.topo.relayed()
	if err == nil {
		err = relayErr
	}
	if v != nil {
		v[relayLateKey] = r.LateShare()
	}
	return v, map[string]any{"load": detail, "relay": r}, err
}

// A longConnectCase opens connections over the long path.
type longConnectCase struct{}

// Name implements Case.
func (longConnectCase) Name() string { return "longpath/connect" }

// Wide implements Case.
func (longConnectCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (longConnectCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (longConnectCase) Metrics() []Metric {
	return []Metric{
		{Name: "answer", Unit: "ms to the first byte", Bounded: true},
		{Name: "answer_p99", Unit: "ms to the first byte", Detail: true},
		{Name: "connect", Unit: "ms until connect returns", Detail: true},
		{Name: relayLateKey, Unit: "% of frames late at the relay", Detail: true},
	}
}

// delay implements delayed.
func (longConnectCase) delay() time.Duration { return longDelay }

// price implements priced.
func (longConnectCase) price(Plan) time.Duration {
	return longConns / longAtOnce * 2 * 2 * longDelay
}

func (longConnectCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	var r latencyResult
	args := latencyArgs{Addr: b.addr, Count: longConns, AtOnce: longAtOnce}
	work := longConns / longAtOnce * dialTimeout
	if err := b.container.call(ctx, work, "latency", args, &r); err != nil {
		return nil, nil, err
	}
	stats, err := b.topo.relayed()
	detail := map[string]any{"latency": r, "relay": stats}
	if r.Answer.Count == 0 {
		return nil, detail, errors.New("no connection was answered")
	}
	const milli = 1e6
	return map[string]float64{
		"answer":     float64(r.Answer.P50) / milli,
		"answer_p99": float64(r.Answer.P99) / milli,
		"connect":    float64(r.Connect.P50) / milli,
		relayLateKey: stats.LateShare(),
	}, detail, err
}
