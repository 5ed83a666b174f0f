// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/bench/chart"
)

// maxGroups is how many groups of bars stand in one drawing, halfBars how many bars
// in one of half the width.
const (
	maxGroups = 8
	halfBars  = 9
)

// figures draws a chapter: its tables as bars, and where there was a rising load,
// what came of each.
func figures(r *Report, part viewPart, slots []int) ([]figure, error) {
	var all []figure
	var cases []Row
	for _, b := range part.Blocks {
		rows := slices.DeleteFunc(slices.Clone(b.Rows), func(row viewRow) bool {
			return row.Metric.Detail && part.ID != "roundtrip" || !drawable(row)
		})
		for chunk := range slices.Chunk(rows, maxGroups) {
			f, err := barFigure(part, b, chunk, slots, len(all))
			if err != nil {
				return nil, err
			}
			all = append(all, f)
		}
		for _, row := range b.Rows {
			of := row.Row
			of.Metric = Metric{}
			if !slices.Contains(cases, of) {
				cases = append(cases, of)
			}
		}
	}
	for _, of := range cases {
		more, err := loadFigures(r, part, of, slots, len(all))
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// drawable reports whether there is a bar to draw.
func drawable(row viewRow) bool {
	return row.Metric.Unit != unitYesNo && slices.ContainsFunc(row.Cells, func(c Cell) bool { return c.Missing == "" && c.Summary.Max >= chart.Smallest })
}

// figureID names the chapter's n-th drawing.
func figureID(part viewPart, n int) string { return fmt.Sprintf("%s-%d", part.ID, n+1) }

// barFigure draws rows of one unit. Times that lie far apart get a logarithmic axis.
func barFigure(part viewPart, b viewBlock, rows []viewRow, slots []int, n int) (figure, error) {
	bars := chart.Bars{Unit: b.direction() + " " + b.Unit}
	shown := make([]bool, len(slots)) // subjects to which some row applies
	for _, row := range rows {
		for i, c := range row.Cells {
			shown[i] = shown[i] || c.Expected()
		}
	}
	for i, slot := range slots {
		if shown[i] {
			bars.Slots = append(bars.Slots, slot)
		}
	}
	bars.ID = figureID(part, n)
	bars.Title = part.Title + ": " + b.caption()
	bars.Log = part.ID == "roundtrip" || part.ID == "fairness" && !b.Higher
	var desc []string
	for _, row := range rows {
		g := chart.Group{Label: row.Label}
		var said []string
		for i, c := range row.Cells {
			if !shown[i] {
				continue
			}
			g.Values = append(g.Values, barValue(c))
			bars.Log = bars.Log && (c.Missing != "" || c.Summary.Min >= chart.Smallest)
			said = append(said, c.Subject+" "+valueText(c))
		}
		bars.Groups = append(bars.Groups, g)
		desc = append(desc, row.Label+": "+strings.Join(said, ", "))
	}
	bars.Half = len(bars.Groups)*len(bars.Slots) <= halfBars
	bars.Desc = strings.Join(desc, "; ") + "."
	svg, err := bars.SVG()
	return figure{Caption: b.caption(), SVG: template.HTML(svg), Half: bars.Half, Marks: bars.Log}, err
}

// barValue is the cell as a bar. What cannot be drawn is missing.
func barValue(c Cell) chart.Value {
	s := c.Summary
	if c.Missing != "" || s.Min < 0 {
		return chart.Value{}
	}
	return chart.Value{Known: true, Doubtful: c.Doubtful(), Median: s.Median, Min: s.Min, Max: s.Max, Label: number(s.Median)}
}

// A loadStep is what a record's detail holds of one offered load.
type loadStep struct {
	Offered   float64 `json:"offered_pps"`
	Delivered float64 `json:"delivered_pps"`
	Loss      float64 `json:"loss_percent"`
}

// loadSteps returns the steps of a rising load, if the detail holds some: as a list,
// or as one under the name "steps" or "measured".
func loadSteps(detail json.RawMessage) []loadStep {
	var steps []loadStep
	if json.Unmarshal(detail, &steps) != nil {
		var in struct {
			Steps    []loadStep `json:"steps"`
			Measured []loadStep `json:"measured"`
		}
		if json.Unmarshal(detail, &in) != nil {
			return nil
		}
		steps = slices.Concat(in.Steps, in.Measured)
	}
	return slices.DeleteFunc(steps, func(s loadStep) bool {
		// What counts as nothing, or would not fit on an axis, is no load.
		return s.Offered < 1 || s.Offered > maxNumber || s.Delivered < 0 || s.Delivered > maxNumber || s.Loss < 0 || s.Loss > 100
	})
}

// loadFigures draws what was delivered and what was lost at each offered load.
func loadFigures(r *Report, part viewPart, of Row, slots []int, n int) ([]figure, error) {
	delivered := chart.Lines{X: "offered, 1000 datagrams per second", Y: "delivered, 1000 per second"}
	loss := chart.Lines{X: delivered.X, Y: "lost, %", Top: 100}
	for i, s := range r.Plan.Subjects {
		var got, lost map[float64][]float64 = map[float64][]float64{}, map[float64][]float64{}
		for _, rec := range r.Records {
			if rec.Subject != s.Name || rec.Case != of.Case || rec.MTU != of.MTU || rec.Family != of.Family || rec.Congestion != of.Congestion {
				continue
			}
			for _, step := range loadSteps(rec.Detail) {
				got[step.Offered/1e3] = append(got[step.Offered/1e3], step.Delivered/1e3)
				lost[step.Offered/1e3] = append(lost[step.Offered/1e3], step.Loss)
			}
		}
		if len(got) > 0 {
			delivered.Lines = append(delivered.Lines, chart.Line{Slot: slots[i], Points: linePoints(got)})
			loss.Lines = append(loss.Lines, chart.Line{Slot: slots[i], Points: linePoints(lost)})
		}
	}
	if !slices.ContainsFunc(delivered.Lines, func(l chart.Line) bool {
		return slices.ContainsFunc(l.Points, func(p chart.Point) bool { return p.Max >= chart.Smallest })
	}) {
		return nil, nil
	}
	label := part.label(of.Case, "delivered", "")
	if extra := unlike(of.conditions(), part.Blocks[0].Conditions); len(extra) > 0 {
		label += ", " + strings.Join(extra, ", ")
	}
	var all []figure
	for i, l := range []chart.Lines{delivered, loss} {
		what, _, _ := strings.Cut(l.Y, ",")
		l.ID = figureID(part, n+i)
		l.Title = fmt.Sprintf("%s, %s: %s at each offered load, %s", part.Title, label, what, of.conditions())
		l.Desc = "The tables below have the best rate, and the highest without loss."
		svg, err := l.SVG()
		if err != nil {
			return nil, err
		}
		all = append(all, figure{Caption: label + ": " + what, SVG: template.HTML(svg), Half: true, Marks: true})
	}
	return all, nil
}

// linePoints makes a line out of the values at each load.
func linePoints(at map[float64][]float64) []chart.Point {
	var points []chart.Point
	for x, v := range at {
		s := Summarize(v)
		points = append(points, chart.Point{X: x, Y: s.Median, Min: s.Min, Max: s.Max})
	}
	slices.SortFunc(points, func(a, b chart.Point) int { return cmp.Compare(a.X, b.X) })
	return points
}
