// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"
)

// startPrefix begins the names of the cases that start a container.
const startPrefix = "launch/start/"

// startPrice is about how long one start takes, for an engine in the middle.
const startPrice = 100 * time.Millisecond

// A launchStart runs a container whose program writes one line, from starting the
// engine until that has ended.
type launchStart struct {
	network bool // whether the container has a network to the outside
}

// Name implements Case.
func (c launchStart) Name() string {
	if c.network {
		return startPrefix + "network"
	}
	return startPrefix + "no-network"
}

// Wide implements Case.
func (launchStart) Wide() bool { return false }

// NeedsHelper implements Case.
func (launchStart) NeedsHelper() bool { return false }

// Metrics implements Case.
func (launchStart) Metrics() []Metric {
	return []Metric{
		{Name: "time", Unit: "ms", Bounded: true},
		{Name: "execs", Unit: "programs executed"},
		{Name: "calls", Unit: "system calls"},
	}
}

// price implements priced.
func (launchStart) price(Plan) time.Duration { return startPrice }

// launches implements launcher: some engines make no network.
func (c launchStart) launches(s Subject) bool {
	if s.Tool == directName {
		return !c.network
	}
	e := tools()[s.Tool].engine
	return e != nil && e.run != nil && (!c.network || e.networks)
}

// A startDetail is what the first repeat found out besides.
type startDetail struct {
	Seen seen `json:"seen"` // of a container that was held
}

// launch implements launchCase. The first repeat of each subject is preceded by runs
// that are not timed: one to look at, and one whose system calls are counted.
func (c launchStart) launch(ctx context.Context, y *yard, s step) (map[string]float64, any, error) {
	var (
		detail any
		counts traceCounts
		lost   error
	)
	if s.Repeat > 0 && y.refused[s.key()] != nil {
		return nil, nil, y.refused[s.key()]
	}
	if s.Repeat == 0 {
		seen, err := y.introduce(ctx, s, c.network)
		if err != nil {
			y.refused[s.key()] = err
			return nil, nil, err
		}
		detail = startDetail{Seen: seen}
		if counts, err = y.count(ctx, s.Subject, c.network); err != nil {
			lost = partialError{metric: "execs", err: err}
		}
	}
	took, err := y.start(ctx, s.Subject, c.network)
	if err != nil {
		return nil, detail, err
	}
	v := map[string]float64{"time": float64(took) / float64(time.Millisecond)}
	if s.Repeat == 0 && lost == nil {
		v["execs"], v["calls"] = float64(counts.Execs), float64(counts.Calls)
	}
	return v, detail, lost
}

// introduce prepares the subject's containers and looks at one, which is its first.
func (y *yard) introduce(ctx context.Context, s step, network bool) (seen, error) {
	if err := y.prepare(ctx, s.Subject); err != nil {
		return seen{}, err
	}
	return y.look(ctx, s.Subject, network)
}

// key names the case for the subject.
func (s step) key() string { return s.Case.Name() + " " + s.Subject.Name }
