// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"time"
)

// startTimes is how often a helper is started in one run of the case.
const startTimes = 10

// startTypical is how long a helper of middling speed takes to start and to end.
const startTypical = 60 * time.Millisecond

// A startCase starts the helper for a new container, again and again. Of a helper
// that makes the container itself, the time includes that.
type startCase struct{}

// Name implements Case.
func (startCase) Name() string { return "start" }

// Wide implements Case.
func (startCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (startCase) NeedsHelper() bool { return true }

// Metrics implements Case.
func (startCase) Metrics() []Metric {
	return []Metric{{Name: "ready", Unit: "ms to ready"}}
}

// price implements priced.
func (startCase) price(Plan) time.Duration { return startTimes * startTypical }

func (startCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	var ms []float64
	for range startTimes {
		if err := b.restart(ctx); err != nil {
			return nil, ms, err
		}
		ms = append(ms, b.helper.startup.Seconds()*1e3)
	}
	slices.Sort(ms)
	return map[string]float64{"ready": Summarize(ms).Median}, ms, nil
}
