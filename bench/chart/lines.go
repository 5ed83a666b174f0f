// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"
)

// A Point is one measurement of a line.
type Point struct {
	X, Y     float64
	Min, Max float64 // of Y
}

// A Line is the series of one slot of the palette.
type Line struct {
	Slot   int
	Points []Point // by rising X
}

// Lines is a chart of lines over a logarithmic axis.
type Lines struct {
	Text
	X, Y  string // what the axes show, with units
	Lines []Line
	// Top is the least that the vertical axis reaches up to; 0 for what the lines
	// need.
	Top float64
}

// The size of a chart of lines; two stand beside each other.
const (
	linesWidth  = 455
	linesHeight = 250
)

// SVG draws the chart. It fails where there is nothing to draw, or a point is not
// finite, has a negative Y or an X that has no logarithm.
func (l Lines) SVG() (string, error) {
	left, right, top, err := l.bounds()
	if err != nil {
		return "", fmt.Errorf("draw %q: %w", l.Title, err)
	}
	p := newPlot()
	p.X.Label.Text, p.Y.Label.Text = oneLine(l.X, 60), oneLine(l.Y, 40)
	p.X.Scale = plot.LogScale{}
	// Room for the marks of the first and last points.
	p.X.Min, p.X.Max = left*0.93, right*1.08
	ticks := slices.DeleteFunc(logarithmic(left, right), func(t plot.Tick) bool { return t.Value < p.X.Min || t.Value > p.X.Max })
	p.X.Tick.Marker = ticks
	p.Y.Min, p.Y.Max = 0, top*1.05
	p.Y.Tick.Marker = linear(top * 1.05)
	lines := plotter.NewGrid()
	lines.Vertical.Color = nil
	lines.Horizontal = draw.LineStyle{Color: grid, Width: thinWidth}
	p.Add(lines)
	for _, line := range l.Lines {
		if err := line.add(p); err != nil {
			return "", fmt.Errorf("draw %q: %w", l.Title, err)
		}
	}
	return render(p, l.Text, linesWidth, linesHeight)
}

// bounds checks the chart and returns how far it goes to both sides and up.
func (l Lines) bounds() (left, right, top float64, err error) {
	left, top = math.Inf(1), l.Top
	for _, line := range l.Lines {
		for _, pt := range line.Points {
			if err := inRange(pt.X, pt.Y, pt.Min, pt.Max); err != nil {
				return 0, 0, 0, err
			}
			if pt.X < Smallest || pt.Min < 0 || pt.Y < pt.Min || pt.Max < pt.Y {
				return 0, 0, 0, fmt.Errorf("bad point %+v", pt)
			}
			left, right, top = min(left, pt.X), max(right, pt.X), max(top, pt.Max)
		}
	}
	if right == 0 || top < Smallest {
		return 0, 0, 0, errors.New("no point above zero")
	}
	return left, right, top, nil
}

// add adds the line with its points and whiskers.
func (l Line) add(p *plot.Plot) error {
	if len(l.Points) == 0 {
		return nil
	}
	xys := make(plotter.XYs, len(l.Points))
	for i, pt := range l.Points {
		xys[i] = plotter.XY{X: pt.X, Y: pt.Y}
		if err := addWhisker(p, pt.X, 12, slotColor(l.Slot), Value{Median: pt.Y, Min: pt.Min, Max: pt.Max}); err != nil {
			return err
		}
	}
	line, points, err := plotter.NewLinePoints(xys)
	if err != nil {
		return err
	}
	m := marks()[l.Slot%Slots]
	line.LineStyle = draw.LineStyle{Color: slotColor(l.Slot), Width: lineWidth, Dashes: m.dashes}
	points.GlyphStyle = draw.GlyphStyle{Color: slotColor(l.Slot), Radius: 3.2, Shape: m.glyph}
	p.Add(line, points)
	return nil
}
