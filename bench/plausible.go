// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// What the rules below hold against a result.
const (
	// boundSlack is by how much a subject may beat the direct path before its result
	// is taken for an error of the measurement: more than the noise between two
	// repeats on a quiet machine.
	boundSlack = 0.10
	// wideSpread is the highest of a cell's values over its lowest from which on their
	// median says little: pairs on a quiet machine stay below two.
	wideSpread = 3
	// leastCPU is the CPU time, in seconds, up to which a helper is taken to have slept:
	// even one that is stalled, at a thousandth of its rate, uses tens of times as much.
	leastCPU = 200e-6
	// proofWindow is the shortest window in which a helper that carries a load must have
	// used more than that.
	proofWindow = 200 * time.Millisecond
)

// Values that a case may report for the rules only; they are no metrics.
const (
	sentKey     = "sent_bytes"     // handed to the kernel until the window's end
	receivedKey = "received_bytes" // taken from it until then
)

// A sight is one repeat's value of one metric, with what the rules judge it by.
type sight struct {
	Metric Metric
	Main   bool // the case's first metric
	Value  float64
	All    map[string]float64 // what the same repeat yielded besides
	Window time.Duration
}

// A valueRule names what cannot be about one repeat's value. A value that breaks
// one is shown, but left out of the median.
type valueRule struct {
	name   string
	broken func(s sight) bool
	why    func(s sight) string
}

// valueRules are tried in order; the first that is broken counts.
var valueRules = [...]valueRule{
	{
		"not a number",
		func(s sight) bool { return !finite(s.Value) },
		func(s sight) string { return fmt.Sprintf("%s is %v", s.Metric.Name, s.Value) },
	},
	{
		"negative",
		func(s sight) bool { return s.Value < 0 },
		func(s sight) string { return fmt.Sprintf("%s is negative", s.Metric.Name) },
	},
	{
		"zero",
		func(s sight) bool { return s.Main && s.Value == 0 },
		func(s sight) string { return fmt.Sprintf("%s is zero", s.Metric.Name) },
	},
	{
		"more received than sent",
		func(s sight) bool { return s.All[receivedKey] > s.All[sentKey] },
		func(s sight) string {
			return fmt.Sprintf("the receiver counted %.0f bytes, the sender %.0f", s.All[receivedKey], s.All[sentKey])
		},
	},
	{
		"late relay",
		func(s sight) bool { return s.Main && relayDoubt([]float64{s.All[relayLateKey]}) != "" },
		func(s sight) string { return relayDoubt([]float64{s.All[relayLateKey]}) },
	},
	{
		"no CPU time",
		func(s sight) bool {
			used, known := s.All[helperCPUKey]
			return known && used <= leastCPU && s.Window >= proofWindow
		},
		func(sight) string {
			return "not proven: the helper used no CPU time while it should have carried this"
		},
	},
}

// A cellRule names what is doubtful about the repeats of a cell taken together.
type cellRule struct {
	name   string
	broken func(c Cell, direct float64) bool // direct is the direct path's median, 0 where there is none
	why    func(c Cell, direct float64) string
}

// cellRules are all applied.
var cellRules = [...]cellRule{
	{
		"better than direct",
		func(c Cell, direct float64) bool {
			if !c.Row.Metric.Bounded || direct == 0 {
				return false
			}
			times := c.Summary.Median / direct
			if c.Row.Metric.Higher {
				return times > 1+boundSlack
			}
			return times < 1-boundSlack
		},
		func(c Cell, direct float64) string {
			return fmt.Sprintf("implausible unless it batches what the direct path does not: better than direct (%.2f×)", c.Summary.Median/direct)
		},
	},
	{
		"wide spread",
		func(c Cell, _ float64) bool {
			low, high := c.bulk()
			return !c.Row.Metric.Detail && low > 0 && high/low > wideSpread
		},
		func(c Cell, _ float64) string {
			return fmt.Sprintf("the repeats differ by more than %d×, so that their median says little", wideSpread)
		},
	},
}

// implausible returns why the value cannot be, or the empty string.
func implausible(s sight) string {
	for _, r := range valueRules {
		if r.broken(s) {
			return r.why(s)
		}
	}
	return ""
}

// doubt applies the cell's rules, which flag it and take it out of comparisons.
func (c *Cell) doubt(direct float64) {
	if c.Missing != "" || len(c.Values) == 0 {
		return
	}
	for _, r := range cellRules {
		if r.broken(*c, direct) {
			c.Flags = append(c.Flags, r.why(*c, direct))
			c.Doubt = true
		}
	}
}

// dropNonFinite takes out of the values what JSON cannot carry and returns an error
// that names it.
func dropNonFinite(values map[string]float64) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if v := values[name]; !finite(v) {
			maps.DeleteFunc(values, func(_ string, v float64) bool { return !finite(v) })
			return fmt.Errorf("implausible: %s is %v", name, v)
		}
	}
	return nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
