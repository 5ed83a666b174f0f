// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// boundSlack is by how much a subject may beat the direct path before its result
// is taken for an error of the measurement.
const boundSlack = 0.10

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
	Values  []float64 `json:"values,omitempty"` // by repeat, without failed ones
	Summary Summary   `json:"summary"`
	// Direct is the median as a multiple of the direct path's, BestPeer as a
	// multiple of the best other tool's; 0 where there is none.
	Direct   float64 `json:"ratio_direct,omitempty"`
	BestPeer float64 `json:"ratio_best_peer,omitempty"`
	// Missing says why there is no value, Flags what is odd about those there are.
	Missing string   `json:"missing,omitempty"`
	Flags   []string `json:"flags,omitempty"`
}

// Doubtful reports whether the result cannot be and so must not be built upon.
func (c Cell) Doubtful() bool { return c.Missing != "" || len(c.Flags) > 0 }

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
		if (c.NeedsHelper() || row.Metric.Helper) && s.Tool == directName {
			cell.Missing = notApplicable
		} else {
			cell.fill(c, s, records)
		}
		cells = append(cells, cell)
	}
	compare(p, cells)
	return cells
}

// notApplicable is the reason of a cell that says nothing about its subject.
const notApplicable = "does not apply"

// fill takes the row's values out of the records.
func (c *Cell) fill(of Case, s Subject, records []Record) {
	m := c.Row.Metric
	worked := false
	var cpu, late []float64
	for _, r := range records {
		if r.Case != c.Row.Case || r.MTU != c.Row.MTU || r.Family != c.Row.Family ||
			r.Congestion != c.Row.Congestion || r.Subject != c.Subject {
			continue
		}
		v, ok := r.Values[m.Name]
		if !ok {
			c.Missing = r.Err
			continue
		}
		c.Values = append(c.Values, v)
		worked = worked || v > 0
		if used, ok := r.Values[helperCPUKey]; ok {
			cpu = append(cpu, used)
		}
		if share, ok := r.Values[relayLateKey]; ok {
			late = append(late, share)
		}
	}
	c.Summary = Summarize(c.Values)
	switch {
	case len(c.Values) == 0 && s.Missing != "":
		c.Missing = s.Missing
	case len(c.Values) == 0 && c.Missing == "":
		c.Missing = "not measured: the run was interrupted"
	case len(c.Values) > 0 && c.Missing != "":
		c.Flags = append(c.Flags, "some repeats failed: "+c.Missing)
		c.Missing = ""
	}
	first := of.Metrics()[0].Name == m.Name
	if doubt := relayDoubt(late); first && doubt != "" {
		c.Flags = append(c.Flags, doubt)
	}
	if first && m.Higher && len(c.Values) > 0 && !worked {
		c.Flags = append(c.Flags, "zero")
	}
	if first && len(cpu) > 0 && Summarize(cpu).Max == 0 {
		c.Flags = append(c.Flags, "not proven: the helper used no CPU time while it should have carried this")
	}
}

// compare sets the ratios of a row's cells and flags what beats the direct path.
// The best peer is the best tool of another kind than the cell's own.
func compare(p Plan, cells []Cell) {
	kind := map[string]string{}
	for _, s := range p.Subjects {
		kind[s.Name] = s.Tool
	}
	m := cells[0].Row.Metric
	direct := 0.0
	for _, c := range cells {
		if kind[c.Subject] == directName && !c.Doubtful() {
			direct = c.Summary.Median
		}
	}
	for i := range cells {
		c := &cells[i]
		if direct == 0 || c.Missing != "" {
			continue
		}
		c.Direct = c.Summary.Median / direct
		better := c.Direct > 1+boundSlack
		if !m.Higher {
			better = c.Direct < 1-boundSlack
		}
		if m.Bounded && better {
			c.Flags = append(c.Flags, fmt.Sprintf("implausible unless it batches what the direct path does not: better than direct (%.2f×)", c.Direct))
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
		if best != 0 && c.Missing == "" && kind[c.Subject] != directName {
			c.BestPeer = c.Summary.Median / best
		}
	}
}
