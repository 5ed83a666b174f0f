// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The numbers of idle connections at which memory is read.
const (
	heldFew  = 900
	heldMany = 4000
)

// holdTime is how long opening them may take.
const holdTime = 30 * time.Second

// settleTime is how long a helper is left alone before its memory is read.
const settleTime = 300 * time.Millisecond

// A memoryCase reads the helper's memory at rest and under idle connections.
type memoryCase struct{}

// Name implements Case.
func (memoryCase) Name() string { return "memory" }

// Wide implements Case.
func (memoryCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (memoryCase) NeedsHelper() bool { return true }

// Metrics implements Case.
func (memoryCase) Metrics() []Metric {
	return []Metric{
		{Name: "idle", Unit: "MB RSS"},
		{Name: "idle_anon", Unit: "MB RssAnon", Detail: true},
		{Name: "add900", Unit: "MB, +900 idle conn."},
		{Name: "add4000", Unit: "MB, +4000 idle conn."},
		{Name: "per1000", Unit: "MB, per 1000 idle conn."},
		{Name: "idle_pss", Unit: "MB PSS", Detail: true},
		{Name: "perconn", Unit: "KiB/conn. of 4000", Detail: true},
	}
}

// rounds implements rare: memory hardly varies, and to open thousands of connections
// takes some helpers a quarter of a minute.
func (memoryCase) rounds(Plan) int { return 1 }

// price implements priced.
func (memoryCase) price(p Plan) time.Duration {
	if p.hasty() {
		return 2*settleTime + holdTypical*heldFew/heldMany
	}
	return 3*settleTime + holdTypical
}

// holdTypical is how long a helper of middling speed takes for heldMany.
const holdTypical = 4 * time.Second

func (memoryCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	read := func() (memory, error) {
		select {
		case <-time.After(settleTime):
		case <-ctx.Done():
			return memory{}, ctx.Err()
		}
		return b.helper.memory()
	}
	idle, err := read()
	if err != nil {
		return nil, nil, err
	}
	all := map[string]memory{"idle": idle}
	v := map[string]float64{"idle": megabytes(idle.RSS), "idle_anon": megabytes(idle.Anon)}
	if idle.PSS > 0 {
		v["idle_pss"] = megabytes(idle.PSS)
	}
	for _, n := range []int{heldFew, heldMany} {
		if n == heldMany && b.plan.hasty() {
			return v, all, partialError{fmt.Sprintf("add%d", n), errors.New(leftOutOfQuick)}
		}
		if err := b.container.call(ctx, holdTime, "hold", holdArgs{Addr: b.addr, N: n}, nil); err != nil {
			// What was measured stands; the cell of this number is missing.
			return v, all, partialError{fmt.Sprintf("add%d", n), err}
		}
		m, err := read()
		if err != nil {
			return v, all, err
		}
		all[fmt.Sprint(n)] = m
		v[fmt.Sprintf("add%d", n)] = megabytes(m.RSS - idle.RSS)
		v["per1000"] = megabytes(m.RSS-idle.RSS) * 1000 / float64(n)
		if n == heldMany {
			v["perconn"] = float64(m.RSS-idle.RSS) / heldMany
		}
	}
	return v, all, nil
}

func megabytes(kib int64) float64 { return float64(kib) * 1024 / 1e6 }
