// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// bytesPerGB is the gigabyte of "CPU seconds per gigabyte": decimal, as network
// rates are.
const bytesPerGB = 1e9

// bulkWarmup is the shortest time for which bulk data flows before it is counted. In
// slow start some helpers' containers send one segment per delayed acknowledgement:
// at MTU 65520, slirp4netns' first 300 ms bring 0.1 Gbit/s, and the second one 4 and
// more. A quick run takes bulkWarmupQuick, and sees some of that.
const (
	bulkWarmup      = time.Second
	bulkWarmupQuick = 500 * time.Millisecond
)

// bulkWarmup is how long bulk data flows before it is counted.
func (p Plan) bulkWarmup() time.Duration {
	if p.hasty() {
		return max(p.Warmup, bulkWarmupQuick)
	}
	return max(p.Warmup, bulkWarmup)
}

// A throughputCase moves bulk data over a number of TCP connections.
type throughputCase struct {
	streams int
	up      bool
}

// Name implements Case.
func (c throughputCase) Name() string {
	return fmt.Sprintf("tcp/throughput/%s/%d", direction(c.up), c.streams)
}

// Wide implements Case.
func (throughputCase) Wide() bool { return true }

// NeedsHelper implements Case.
func (throughputCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (throughputCase) Metrics() []Metric {
	return []Metric{
		{Name: "rate", Unit: "Gbit/s", Higher: true, Bounded: true},
		{Name: "cpu", Unit: "CPU s/GB", Helper: true},
		{Name: "cpu_all", Unit: "CPU s/GB of the whole machine", Detail: true},
	}
}

// price implements priced.
func (throughputCase) price(p Plan) time.Duration { return p.bulkWarmup() + p.Window }

func (c throughputCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	args := tcpStartArgs{Addr: b.addr, Streams: c.streams, Up: c.up}
	if err := b.container.call(ctx, dialTimeout, "tcp.start", args, nil); err != nil {
		return nil, nil, err
	}
	receiver := b.container
	if c.up {
		receiver = b.peer
	}
	var warm, r windowResult
	warmup := b.plan.bulkWarmup()
	err := receiver.call(ctx, warmup, "tcp.received", windowArgs{Window: warmup}, &warm)
	if err != nil {
		return nil, nil, err
	}
	before, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	busyBefore, err := machineCPU()
	if err != nil {
		return nil, nil, err
	}
	err = receiver.call(ctx, b.plan.Window, "tcp.received", windowArgs{Window: b.plan.Window}, &r)
	if err != nil {
		return nil, nil, err
	}
	busyAfter, err := machineCPU()
	if err != nil {
		return nil, nil, err
	}
	after, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	if r.Bytes == 0 {
		return nil, r, errors.New("no byte arrived in the window")
	}
	sent, received, err := c.totals(ctx, b, receiver)
	if err != nil {
		return nil, r, err
	}
	gigabytes := float64(r.Bytes) / bytesPerGB
	v := map[string]float64{
		"rate": gigabytes * 8 / r.Elapsed.Seconds(),
		// With the endpoints, the kernel's softirqs, and whoever else runs here.
		"cpu_all": (busyAfter - busyBefore) / gigabytes,
		sentKey:   sent, receivedKey: received,
	}
	if b.helper != nil {
		v["cpu"] = (after - before) / gigabytes
		v[helperCPUKey] = after - before
	}
	return v, map[string]any{"warmup": warm, "window": r}, nil
}

// totals returns what both ends have counted since the connections were opened. The
// receiver is asked first, so that it cannot have more than the sender had sent.
func (c throughputCase) totals(ctx context.Context, b *bout, receiver *remote) (sent, received float64, err error) {
	sender := b.container
	if receiver == b.container {
		sender = b.peer
	}
	var in, out totalResult
	if err := receiver.call(ctx, 0, "tcp.total", nil, &in); err != nil {
		return 0, 0, err
	}
	if err := sender.call(ctx, 0, "tcp.total", nil, &out); err != nil {
		return 0, 0, err
	}
	return float64(out.Sent), float64(in.Received), nil
}
