// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A Value is one bar. The zero Value is one that is missing.
type Value struct {
	Known    bool
	Doubtful bool // drawn hollow
	Median   float64
	Min, Max float64
	Label    string // stands above the bar
}

// A Group is a number of bars side by side, one for each series.
type Group struct {
	Label  string
	Values []Value
}

// Bars is a chart of groups of bars with their lowest and highest values. With Log
// it has dots on a logarithmic axis instead, for values that lie far apart: the
// length of a bar says nothing there.
type Bars struct {
	Text
	Unit   string
	Slots  []int // of the series, into the palette
	Groups []Group
	Log    bool
	Half   bool // as wide as a chart of lines
}

// The size of a chart of bars, what its axis takes of the width, and what of the
// rest is bars.
const (
	barsWidth  = 920
	barsHeight = 250
	axisWidth  = 70
	groupFill  = 0.84 // of a group's width
	headroom   = 1.13 // above the highest bar, for its label
)

// labelRoom is the width below which a value's label is turned.
const labelRoom = 26

// SVG draws the chart. It fails where there is nothing to draw, a value is
// negative or not finite, or a group has not one value for each series.
func (b Bars) SVG() (string, error) {
	low, high, err := b.bounds()
	if err != nil {
		return "", fmt.Errorf("draw %q: %w", b.Title, err)
	}
	p := newPlot()
	p.Y.Label.Text = oneLine(b.Unit, 40)
	ticks := linear(high * headroom)
	p.Y.Min, p.Y.Max = 0, high*headroom
	if b.Log {
		ticks = logarithmic(low, high)
		p.Y.Min, p.Y.Max = min(ticks[0].Value, low), max(ticks[len(ticks)-1].Value, high)*headroom
		p.Y.Scale = plot.LogScale{}
	}
	p.Y.Tick.Marker = ticks
	p.X.Min, p.X.Max = -0.5, float64(len(b.Groups))-0.5
	lines := plotter.NewGrid()
	lines.Vertical.Color = nil
	lines.Horizontal = draw.LineStyle{Color: grid, Width: thinWidth}
	p.Add(lines)
	names := make(plot.ConstantTicks, len(b.Groups))
	for i, g := range b.Groups {
		names[i] = plot.Tick{Value: float64(i), Label: oneLine(g.Label, b.labelRunes())}
		if err := b.addGroup(p, i, g); err != nil {
			return "", fmt.Errorf("draw %q: %w", b.Title, err)
		}
	}
	p.X.Tick.Marker = names
	p.X.Tick.Length = 5 // keeps the labels off the axis
	p.X.Tick.LineStyle.Color = color.Transparent
	return render(p, b.Text, vg.Length(b.width()), barsHeight)
}

// labelRunes is about how many characters fit below a group.
func (b Bars) labelRunes() int { return max(6, (b.width()-axisWidth)/len(b.Groups)/6) }

func (b Bars) width() int {
	if b.Half {
		return linesWidth
	}
	return barsWidth
}

// bounds checks the chart and returns its lowest median or minimum and its highest
// maximum.
func (b Bars) bounds() (low, high float64, err error) {
	low = math.Inf(1)
	for _, g := range b.Groups {
		if len(g.Values) != len(b.Slots) {
			return 0, 0, fmt.Errorf("group %q has %d values for %d series", g.Label, len(g.Values), len(b.Slots))
		}
		for _, v := range g.Values {
			if !v.Known {
				continue
			}
			if err := inRange(v.Median, v.Min, v.Max); err != nil {
				return 0, 0, err
			}
			if v.Min < 0 || v.Median < v.Min || v.Max < v.Median {
				return 0, 0, fmt.Errorf("group %q: %v is not between %v and %v", g.Label, v.Median, v.Min, v.Max)
			}
			high = max(high, v.Max)
			if b.Log && v.Min < Smallest {
				return 0, 0, fmt.Errorf("group %q: %v has no logarithm", g.Label, v.Min)
			}
			low = min(low, v.Min)
		}
	}
	if high < Smallest {
		return 0, 0, fmt.Errorf("no value above zero")
	}
	return low, high, nil
}

// addGroup adds the bars of the group at x.
func (b Bars) addGroup(p *plot.Plot, x int, g Group) error {
	share := groupFill / float64(len(b.Slots))
	room := vg.Length(float64(b.width()-axisWidth) / float64(len(b.Groups)) * share)
	for i, v := range g.Values {
		at := float64(x) - groupFill/2 + share*(float64(i)+0.5)
		add := b.addBar
		if b.Log {
			add = b.addDot
		}
		if v.Known {
			if err := add(p, at, room, b.Slots[i], v); err != nil {
				return err
			}
		} else {
			v = Value{Label: "missing", Max: p.Y.Min}
		}
		if err := addLabel(p, at, room, v); err != nil {
			return err
		}
	}
	return nil
}

// addBar adds one bar with its whisker.
func (b Bars) addBar(p *plot.Plot, at float64, room vg.Length, slot int, v Value) error {
	bar, err := plotter.NewBarChart(plotter.Values{v.Median}, max(room*0.88, 1))
	if err != nil {
		return err
	}
	bar.XMin = at
	bar.Color = slotColor(slot)
	bar.LineStyle = draw.LineStyle{Color: slotColor(slot), Width: 1}
	if v.Doubtful {
		bar.Color = surface
		bar.LineStyle.Dashes = []vg.Length{3, 2}
	}
	p.Add(bar)
	return addWhisker(p, at, room, ink, v)
}

// addDot adds one dot with its whisker.
func (b Bars) addDot(p *plot.Plot, at float64, room vg.Length, slot int, v Value) error {
	if err := addWhisker(p, at, room, slotColor(slot), v); err != nil {
		return err
	}
	dot, err := plotter.NewScatter(plotter.XYs{{X: at, Y: v.Median}})
	if err != nil {
		return err
	}
	dot.GlyphStyle = draw.GlyphStyle{Color: slotColor(slot), Radius: 4.5, Shape: marks()[slot%Slots].glyph}
	if v.Doubtful {
		dot.Shape = draw.RingGlyph{}
	}
	p.Add(dot)
	return nil
}

// A span is one value's lowest and highest, for gonum.
type span struct {
	plotter.XYs
	plotter.YErrors
}

func addWhisker(p *plot.Plot, at float64, room vg.Length, c color.Color, v Value) error {
	if v.Max == v.Min {
		return nil
	}
	s := span{plotter.XYs{{X: at, Y: v.Median}}, plotter.YErrors{{Low: v.Median - v.Min, High: v.Max - v.Median}}}
	// On a seam in the surface's colour it is seen on a bar of any colour.
	for _, style := range []draw.LineStyle{{Color: surface, Width: 3}, {Color: c, Width: 1}} {
		w, err := plotter.NewYErrorBars(s)
		if err != nil {
			return err
		}
		w.LineStyle = style
		w.CapWidth = min(room*0.5, 8)
		p.Add(w)
	}
	return nil
}

// addLabel puts the value's label above its bar, turned where it would not fit.
func addLabel(p *plot.Plot, at float64, room vg.Length, v Value) error {
	l, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: at, Y: v.Max}}, Labels: []string{v.Label}})
	if err != nil {
		return err
	}
	s := &l.TextStyle[0]
	setFont(&s.Font, labelSize)
	s.Color = ink
	s.XAlign, s.YAlign = text.XCenter, text.YBottom
	l.Offset.Y = 3
	if !v.Known {
		s.Color = muted
	}
	if room < labelRoom {
		s.Rotation = math.Pi / 2
		s.XAlign, s.YAlign = text.XLeft, text.YCenter
	}
	p.Add(l)
	return nil
}
