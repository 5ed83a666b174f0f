// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"
)

// fairnessPause is the time between two round trips of a probe. It keeps the probe
// from being a load of its own.
const fairnessPause = 200 * time.Microsecond

// A fairnessCase measures how long others wait while one flow moves bulk data.
type fairnessCase struct {
	up bool // the direction of the bulk data
}

// Name implements Case.
func (c fairnessCase) Name() string { return "fairness/" + direction(c.up) }

// Wide implements Case.
func (fairnessCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (fairnessCase) NeedsHelper() bool { return false }

// Metrics implements Case. None is bounded by the direct path, whose bulk data may
// be more.
func (fairnessCase) Metrics() []Metric {
	return []Metric{
		{Name: "p99", Unit: "µs, TCP probe"},
		{Name: "p50", Unit: "µs, TCP probe", Detail: true},
		{Name: "p999", Unit: "µs, TCP probe", Detail: true},
		{Name: "udp_p99", Unit: "µs, UDP probe"},
		{Name: "udp_p50", Unit: "µs, UDP probe", Detail: true},
		{Name: "udp_p999", Unit: "µs, UDP probe", Detail: true},
		{Name: "udp_lost", Unit: "UDP probes lost", Detail: true},
		{Name: "bulk", Unit: "Gbit/s, bulk beside the probes", Higher: true},
	}
}

func (c fairnessCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	if err := b.peer.call(ctx, 0, "udp.serve", nil, nil); err != nil {
		return nil, nil, err
	}
	start := tcpStartArgs{Addr: b.addr, Streams: 1, Up: c.up}
	if err := b.container.call(ctx, dialTimeout, "tcp.start", start, nil); err != nil {
		return nil, nil, err
	}
	before, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	r, err := c.measure(ctx, b)
	if err != nil {
		return nil, r, err
	}
	after, err := b.helperCPU()
	if err != nil {
		return nil, r, err
	}
	switch {
	case r.TCP.Count == 0:
		return nil, r, errors.New("no round trip of the TCP probe was completed beside the bulk data")
	case r.Bulk.Bytes == 0:
		return nil, r, errors.New("no byte of the bulk data arrived beside the probes")
	}
	v := map[string]float64{
		"bulk":     float64(r.Bulk.Bytes) * 8 / 1e9 / r.Bulk.Elapsed.Seconds(),
		"udp_lost": float64(r.UDP.Lost),
	}
	if b.helper != nil {
		v[helperCPUKey] = after - before
	}
	tcp, tcpErr := r.TCP.values("")
	maps.Copy(v, tcp)
	if r.UDP.Count == 0 {
		return v, r, partialError{"udp_p99", errors.New("no datagram of the UDP probe came back beside the bulk data")}
	}
	udp, udpErr := r.UDP.values("udp_")
	maps.Copy(v, udp)
	if tcpErr != nil {
		return v, r, tcpErr
	}
	return v, r, udpErr
}

// fairnessWindow is the shortest window of the case: the tail of slow round trips
// needs many of them.
const fairnessWindow = 2 * time.Second

// window is that of the plan, or fairnessWindow if it is shorter and there is time.
func (fairnessCase) window(p Plan) time.Duration {
	if p.hasty() {
		return max(p.Window, fairnessWindow/2)
	}
	return max(p.Window, fairnessWindow)
}

// price implements priced.
func (c fairnessCase) price(p Plan) time.Duration { return p.bulkWarmup() + c.window(p) }

// measure runs the probes in the container and counts the bulk data where it
// arrives.
func (c fairnessCase) measure(ctx context.Context, b *bout) (probeResult, error) {
	var (
		r       probeResult
		arrived windowResult
		errs    [2]error
		group   sync.WaitGroup
		probe   = roundTripArgs{Addr: b.addr, Size: 1, Pause: fairnessPause, Warmup: b.plan.bulkWarmup(), Window: c.window(b.plan)}
		count   = windowArgs{Warmup: probe.Warmup, Window: probe.Window}
	)
	group.Go(func() { errs[0] = b.container.call(ctx, c.price(b.plan)+dialTimeout, "probe", probe, &r) })
	group.Go(func() { errs[1] = b.peer.call(ctx, c.price(b.plan), "tcp.received", count, &arrived) })
	group.Wait()
	if c.up {
		r.Bulk = arrived
	}
	return r, errors.Join(errs[:]...)
}
