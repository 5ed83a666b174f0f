// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"sync"
	"time"
)

// A loop does one exchange after the other, AtOnce of them at any time.
type loop struct {
	AtOnce         int
	Warmup, Window time.Duration
}

// loopResult counts the exchanges that were completed in the window.
type loopResult struct {
	Done, Failed int64
	Elapsed      time.Duration
	P50, P99     int64  // ns, of completed exchanges
	FirstError   string // of the failed ones
}

// run calls exchange until the window is over. Its argument grows by AtOnce from
// the worker's own number on, so that it is never the same twice.
func (l loop) run(exchange func(n int) error) loopResult {
	var (
		mu    sync.Mutex
		r     loopResult
		took  []int64
		group sync.WaitGroup
		begin = time.Now().Add(l.Warmup)
		end   = begin.Add(l.Window)
	)
	for i := range l.AtOnce {
		group.Go(func() {
			var mine []int64
			for n := i; ; n += l.AtOnce {
				start := time.Now()
				if start.After(end) {
					break
				}
				err := exchange(n)
				now := time.Now()
				if now.Before(begin) || now.After(end) {
					continue
				}
				if err == nil {
					mine = append(mine, int64(now.Sub(start)))
					continue
				}
				mu.Lock()
				r.Failed++
				if r.FirstError == "" {
					r.FirstError = err.Error()
				}
				mu.Unlock()
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	group.Wait()
	slices.Sort(took)
	r.Done, r.Elapsed = int64(len(took)), l.Window
	r.P50, r.P99 = Percentile(took, 0.50), Percentile(took, 0.99)
	return r
}
