// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
)

// A connectCase makes short connections, a number of them at once.
type connectCase struct {
	atOnce       int
	ports        int  // of the server; 0 for all
	serverCloses bool // the server closes first, as after "Connection: close"
}

// Name implements Case.
func (c connectCase) Name() string {
	if c.serverCloses {
		return fmt.Sprintf("tcp/connect/%d/server-closes", c.atOnce)
	}
	return fmt.Sprintf("tcp/connect/%d", c.atOnce)
}

// Wide implements Case.
func (connectCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (connectCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (connectCase) Metrics() []Metric {
	return []Metric{
		{Name: "rate", Unit: "conn/s", Higher: true, Bounded: true},
		{Name: "p99", Unit: "ms", Detail: true},
		{Name: "failed", Unit: "connections", Detail: true},
	}
}

func (c connectCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	before, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	var r loopResult
	if c.ports == 0 {
		c.ports = tcpPorts
	}
	args := connectArgs{
		Addr: b.addr, Ports: c.ports, ServerCloses: c.serverCloses,
		Loop: loop{AtOnce: c.atOnce, Warmup: b.plan.Warmup, Window: b.plan.Window},
	}
	// A connect that gets no answer is given up after dialTimeout, beyond the window.
	work := b.plan.Warmup + b.plan.Window + dialTimeout
	if err := b.container.call(ctx, work, "connect", args, &r); err != nil {
		return nil, nil, err
	}
	after, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	if r.Done == 0 && r.Failed == 0 {
		return nil, r, errors.New("the path stopped: no connection was completed in the window, and none failed")
	}
	if r.Done == 0 {
		return nil, r, fmt.Errorf("no connection was completed; %d failed, the first with: %s", r.Failed, r.FirstError)
	}
	v := map[string]float64{
		"rate":   float64(r.Done) / r.Elapsed.Seconds(),
		"p99":    float64(r.P99) / 1e6,
		"failed": float64(r.Failed),
	}
	if b.helper != nil {
		v[helperCPUKey] = after - before
	}
	return v, r, nil
}
