// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"
)

// setupTime is about how long it takes to make and take down what a step runs in, and
// to prove who carried it: namespaces, container, helper, endpoints. Measured on 2
// cores: 80 ms for the direct path, 150 ms for slirp4netns and slipway, 300 ms for
// RootlessKit.
const setupTime = 150 * time.Millisecond

// A budget decides which rounds a run has time for. Time is counted in what rounds
// took, so that it needs no clock.
type budget struct {
	limit time.Duration
	spent time.Duration
	took  map[string]time.Duration // the last round, by case and conditions
}

func newBudget(limit time.Duration) *budget {
	return &budget{limit: limit, took: map[string]time.Duration{}}
}

// allows reports whether the round may run: it is the first of its case, or it
// fits, should it take as long as the one before. A round is left out as a whole,
// so that no subject is measured more often than another.
func (b *budget) allows(round []step) bool {
	if len(round) == 0 || round[0].Repeat == 0 {
		return true
	}
	return b.spent+b.took[round[0].conditions()] <= b.limit
}

// spend notes how long the round took.
func (b *budget) spend(round []step, took time.Duration) {
	if len(round) == 0 {
		return
	}
	b.spent += took
	b.took[round[0].conditions()] = took
}

// conditions names what the steps of a round have in common, the repeat aside.
func (s step) conditions() string {
	return fmt.Sprintf("%s %d %d %s", s.Case.Name(), s.MTU, s.Family, s.Congestion)
}

// price is about how long one run of the case takes, without its setupTime.
func (p Plan) price(c Case) time.Duration {
	if c, ok := c.(priced); ok {
		return c.price(p)
	}
	return p.Warmup + p.Window
}

// delayOf is the delay of the case's path, one way.
func delayOf(c Case) time.Duration {
	if c, ok := c.(delayed); ok {
		return c.delay()
	}
	return 0
}

// An Estimate is what a plan is expected to take, subjects that are missing aside.
type Estimate struct {
	Steps int           `json:"steps"`
	First time.Duration `json:"first_ns"` // the first round of every case
	All   time.Duration `json:"all_ns"`   // all rounds
}

// Estimate says how long the plan would take without a limit.
func (p Plan) Estimate() Estimate {
	var e Estimate
	for _, s := range p.steps() {
		if !p.runs(s) {
			continue
		}
		t := p.cost(s)
		e.Steps++
		e.All += t
		if s.Repeat == 0 {
			e.First += t
		}
	}
	return e
}

// cost is about how long the step takes as a whole.
func (p Plan) cost(s step) time.Duration {
	return setupTime + 2*delaySetup*delayOf(s.Case) + p.price(s.Case)
}

// delaySetup is how many round trips over the path it takes to prove the path.
const delaySetup = 8

// String says it in a line for the user.
func (e Estimate) String() string {
	return fmt.Sprintf("%d steps, about %s; %s of that for every case once", e.Steps, e.All.Round(time.Second), e.First.Round(time.Second))
}

// announcement is the line that says before a run how long it will take.
func (p Plan) announcement() string {
	e := p.Estimate()
	s := e.String()
	switch {
	case e.First > p.Limit:
		return fmt.Sprintf("%s, which is beyond the limit of %s: every case will run once (a higher -limit, a shorter -duration or fewer -subjects change that)", s, p.Limit)
	case e.All > p.Limit:
		return fmt.Sprintf("%s; repeats that do not fit into %s will be left out", s, p.Limit)
	}
	return s
}
