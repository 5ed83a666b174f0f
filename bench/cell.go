// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Row is one line of the table: a metric of a case under one set of conditions.
type Row struct {
	Case       string `json:"case"`
	MTU        int    `json:"mtu"`
	Family     int    `json:"family"`
	Congestion string `json:"congestion"`
	Metric     Metric `json:"metric"`
}

// A Cell is one subject's result in a row.
type Cell struct {
	Row     Row       `json:"row"`
	Subject string    `json:"subject"`
	Values  []float64 `json:"values,omitempty"` // by repeat, without failed and implausible ones
	// Rejected are the implausible values. They take no part in the summary unless
	// there are no others.
	Rejected []float64 `json:"rejected,omitempty"`
	Summary  Summary   `json:"summary"`
	// Direct is the median as a multiple of the direct path's, BestPeer as a
	// multiple of the best other tool's; 0 where there is none.
	Direct   float64 `json:"ratio_direct,omitempty"`
	BestPeer float64 `json:"ratio_best_peer,omitempty"`
	// Missing says why there is no value, Flags what is odd about those there are.
	Missing string   `json:"missing,omitempty"`
	Flags   []string `json:"flags,omitempty"`
	// Doubt says that a flag means the summary as a whole, not one repeat.
	Doubt bool `json:"doubt,omitempty"`
}

// Doubtful reports whether the result cannot be and so must not be built upon: it
// has no ratio, and no other result has one to it.
func (c Cell) Doubtful() bool { return c.Missing != "" || c.Doubt }

// MakeCells sums the records up: one cell per row and subject, in the order of the
// plan's steps.
func MakeCells(p Plan, records []Record) []Cell {
	var cells []Cell
	seen := map[Row]bool{}
	for _, s := range p.steps() {
		for _, m := range s.Case.Metrics() {
			row := Row{Case: s.Case.Name(), MTU: s.MTU, Family: s.Family, Congestion: s.Congestion, Metric: m}
			if seen[row] {
				continue
			}
			seen[row] = true
			cells = append(cells, makeRow(p, row, s.Case, records)...)
		}
	}
	return cells
}

// makeRow returns the cells of one row, one for each subject.
func makeRow(p Plan, row Row, c Case, records []Record) []Cell {
	var cells []Cell
	for _, s := range p.Subjects {
		cell := Cell{Row: row, Subject: s.Name}
		switch {
		case (c.NeedsHelper() || row.Metric.Helper) && s.Tool == directName:
			cell.Missing = notApplicable
		case !s.takesPart(c):
			cell.Missing = notItsCase
		default:
			cell.fill(p, c, s, records)
		}
		cells = append(cells, cell)
	}
	compare(p, cells)
	return cells
}

// The reasons of a cell from which nothing is to be expected.
const (
	notApplicable = "does not apply"                 // there is no helper
	notItsCase    = "not one of the subject's cases" // to which it is limited
)

// Of manyRepeats and more, one in outliers at either end may be what something else on
// the machine did to it.
const (
	manyRepeats = 10
	outliers    = 10
)

// bulk returns between what the values lie, outliers aside where there are many.
func (c Cell) bulk() (low, high float64) {
	if len(c.Values) < manyRepeats {
		return c.Summary.Min, c.Summary.Max
	}
	v := slices.Sorted(slices.Values(c.Values))
	off := len(v) / outliers
	return v[off], v[len(v)-1-off]
}

// Expected reports whether the cell was to have a value.
func (c Cell) Expected() bool { return c.Missing != notApplicable && c.Missing != notItsCase }

// fill takes the row's values out of the records.
func (c *Cell) fill(p Plan, of Case, s Subject, records []Record) {
	m := c.Row.Metric
	failed, odd := "", ""
	for _, r := range records {
		if r.Case != c.Row.Case || r.MTU != c.Row.MTU || r.Family != c.Row.Family ||
			r.Congestion != c.Row.Congestion || r.Subject != c.Subject {
			continue
		}
		v, ok := r.Values[m.Name]
		if !ok {
			failed = cmp.Or(r.Err, failed)
			continue
		}
		why := implausible(sight{Metric: m, Main: of.Metrics()[0].Name == m.Name, Value: v, All: r.Values, Window: p.Window})
		if r.Proof != nil && r.Proof.Failed != "" {
			why = cmp.Or(why, "not proven: "+r.Proof.Failed)
		}
		if why == "" {
			c.Values = append(c.Values, v)
			continue
		}
		odd = why
		c.Rejected = append(c.Rejected, v)
	}
	c.Summary = Summarize(c.Values)
	switch {
	case len(c.Values) > 0 && failed != "":
		c.Flags = append(c.Flags, "some repeats failed: "+failed)
	case len(c.Values)+len(c.Rejected) > 0: // there is something to show
	case s.Missing != "":
		c.Missing = s.Missing
	case p.gap(of, c.Row.Congestion) != "":
		c.Missing = p.gap(of, c.Row.Congestion)
	case failed != "":
		c.Missing = failed
	default:
		c.Missing = "not measured: the run was interrupted"
	}
	switch {
	case len(c.Rejected) == 0:
	case len(c.Values) == 0:
		c.Flags, c.Doubt, c.Summary = append(c.Flags, odd), true, Summarize(c.Rejected)
	default:
		c.Flags = append(c.Flags, fmt.Sprintf("%d of %d repeats left out (%s): %s",
			len(c.Rejected), len(c.Rejected)+len(c.Values), numbers(c.Rejected), odd))
	}
}

func numbers(all []float64) string {
	var s []string
	for _, v := range all {
		s = append(s, number(v))
	}
	return strings.Join(s, ", ")
}

// compare flags what is doubtful in a row and sets the ratios of the other cells.
// The best peer is the best tool of another kind than the cell's own.
func compare(p Plan, cells []Cell) {
	kind := map[string]string{}
	for _, s := range p.Subjects {
		kind[s.Name] = s.Tool
	}
	m := cells[0].Row.Metric
	direct := 0.0
	for i := range cells {
		if c := &cells[i]; kind[c.Subject] == directName {
			c.doubt(0)
			if !c.Doubtful() {
				direct = c.Summary.Median
			}
		}
	}
	for i := range cells {
		c := &cells[i]
		if kind[c.Subject] != directName {
			c.doubt(direct)
		}
		if direct != 0 && !c.Doubtful() {
			c.Direct = c.Summary.Median / direct
		}
	}
	for i := range cells {
		c := &cells[i]
		best := 0.0
		for _, o := range cells {
			v := o.Summary.Median
			if kind[o.Subject] == directName || kind[o.Subject] == kind[c.Subject] || o.Doubtful() || v == 0 {
				continue
			}
			if best == 0 || m.Higher == (v > best) {
				best = v
			}
		}
		if best != 0 && !c.Doubtful() && kind[c.Subject] != directName {
			c.BestPeer = c.Summary.Median / best
		}
	}
}
