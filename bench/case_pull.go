// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"
)

// pullRate is how much is pulled for each second of the window (bytes): half a
// gigabyte by default, and with -duration 4s the two of a large image.
const pullRate = 512e6

// pullTypical is how fast a helper of middling speed is, the unpacking included
// (bytes per second).
const pullTypical = 250e6

// pullPatience is how long more than that a pull may take.
const pullPatience = 90 * time.Second

// A pullCase does what `podman pull` and a build do: the container gets an archive of
// many files over HTTP, and unpacks it onto an overlay while it comes in. It shows how
// much of a helper's speed is left to its users.
type pullCase struct{}

// Name implements Case.
func (pullCase) Name() string { return "pull" }

// Wide implements Case.
func (pullCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (pullCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (pullCase) Metrics() []Metric {
	return []Metric{
		{Name: "time", Unit: "s/GB", Bounded: true},
		{Name: "cpu", Unit: "CPU s/GB", Helper: true},
		{Name: "cpu_all", Unit: "CPU s/GB of the whole machine"},
	}
}

// pullBytes is how much the plan pulls at once.
func (p Plan) pullBytes() int64 { return int64(pullRate * p.Window.Seconds()) }

// price implements priced.
func (pullCase) price(p Plan) time.Duration {
	return time.Duration(float64(p.pullBytes()) / pullTypical * float64(time.Second))
}

func (c pullCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	if err := b.peer.call(ctx, 0, "pull.serve", nil, nil); err != nil {
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
	var r pullResult
	args := pullArgs{Addr: b.addr, Bytes: b.plan.pullBytes()}
	if err := b.container.call(ctx, c.price(b.plan)+pullPatience, "pull", args, &r); err != nil {
		return nil, nil, err
	}
	busyAfter, err := machineCPU()
	if err != nil {
		return nil, r, err
	}
	after, err := b.helperCPU()
	if err != nil {
		return nil, r, err
	}
	if r.Bytes < args.Bytes {
		return nil, r, fmt.Errorf("%d bytes were unpacked, want %d", r.Bytes, args.Bytes)
	}
	gigabytes := float64(r.Bytes) / bytesPerGB
	v := map[string]float64{"time": r.Elapsed.Seconds() / gigabytes, "cpu_all": (busyAfter - busyBefore) / gigabytes}
	if b.helper != nil {
		v["cpu"] = (after - before) / gigabytes
		v[helperCPUKey] = after - before
	}
	return v, r, nil
}
