// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"fmt"
	"image/color"
	"math"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A Shade is one colour in the light and in the dark scheme, as #RRGGBB.
type Shade struct {
	Light, Dark string
}

// A mark is how the points of a series look on paper without colours.
type mark struct {
	glyph  draw.GlyphDrawer
	char   string // the same in text
	dashes []vg.Length
}

// Slots is the number of series that look different from each other; slot Slots
// looks like slot 0.
const Slots = 8

// Role colours, which stand for CSS variables until the drawing is finished.
var (
	ink     = color.RGBA{R: 1, G: 1, B: 1, A: 255}
	muted   = color.RGBA{R: 1, G: 1, B: 2, A: 255}
	grid    = color.RGBA{R: 1, G: 1, B: 3, A: 255}
	surface = color.RGBA{R: 1, G: 1, B: 4, A: 255}
)

// Surface returns the colour that the drawings are made to stand on.
func Surface() Shade { return Shade{Light: "#FFFFFF", Dark: "#15191E"} }

// Palette returns the colours of the series, by slot. They are those of Okabe and
// Ito ("Color Universal Design", 2008), which people with any of the common colour
// vision deficiencies tell apart, made darker or lighter where that is needed for a
// contrast of 3:1 with the surface (WCAG 2.2, 1.4.11).
func Palette() [Slots]Shade {
	return [Slots]Shade{
		{"#6E7781", "#9AA4AF"}, // grey
		{"#0072B2", "#56B4E9"}, // blue
		{"#D55E00", "#FF9A4D"}, // vermilion
		{"#00875F", "#2CCB9A"}, // bluish green
		{"#AA4499", "#EBA3CB"}, // reddish purple
		{"#8A6D00", "#F0E442"}, // yellow
		{"#332288", "#B8A6F2"}, // indigo
		{"#7A3B10", "#D9B38C"}, // brown
	}
}

// Mark returns the character that looks like the points of the slot's lines.
func Mark(slot int) string { return marks()[slot%Slots].char }

// Styles returns the CSS declarations of the variables that the drawings use: for
// the light scheme, and for the dark one.
func Styles() (light, dark string) {
	var l, d strings.Builder
	add := func(name string, s Shade) {
		fmt.Fprintf(&l, "--plot-%s:%s;", name, s.Light)
		fmt.Fprintf(&d, "--plot-%s:%s;", name, s.Dark)
	}
	add("ink", Shade{"#1F2328", "#E6EAEE"})
	add("muted", Shade{"#57606A", "#A5AFBA"})
	add("grid", Shade{"#D8DEE4", "#333B44"})
	add("surface", Surface())
	for i, s := range Palette() {
		add(fmt.Sprint("s", i), s)
	}
	return l.String(), d.String()
}

// slotColor returns the role colour of a series.
func slotColor(slot int) color.RGBA {
	return color.RGBA{R: 1, G: 2, B: uint8(slot % Slots), A: 255}
}

// paint replaces role colours by CSS variables.
func paint(svg string) string {
	hex := func(c color.RGBA) string { return fmt.Sprintf(":#%02X%02X%02X", c.R, c.G, c.B) }
	pairs := []string{hex(ink), ":var(--plot-ink)", hex(muted), ":var(--plot-muted)", hex(grid), ":var(--plot-grid)", hex(surface), ":var(--plot-surface)"}
	for i := range Slots {
		pairs = append(pairs, hex(slotColor(i)), fmt.Sprintf(":var(--plot-s%d)", i))
	}
	return strings.NewReplacer(pairs...).Replace(svg)
}

func marks() [Slots]mark {
	return [Slots]mark{
		{star{4, 1}, "◆", []vg.Length{2, 2}},
		{draw.CircleGlyph{}, "●", nil},
		{draw.BoxGlyph{}, "■", []vg.Length{6, 2}},
		{draw.PyramidGlyph{}, "▲", []vg.Length{4, 2, 1, 2}},
		{star{3, -1}, "▼", []vg.Length{8, 3}},
		{star{5, 0.45}, "★", []vg.Length{1, 2}},
		{star{6, 1}, "⬢", []vg.Length{6, 2, 1, 2, 1, 2}},
		{draw.RingGlyph{}, "○", []vg.Length{3, 3}},
	}
}

// A star is a filled shape with n points, between which it goes back to the inner
// part of its radius; with 1 it is a polygon, and with -1 one that stands on its head.
type star struct {
	n     int
	inner float64
}

// DrawGlyph implements draw.GlyphDrawer.
func (s star) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, at vg.Point) {
	up, each := 1.0, 1
	if s.inner < 0 {
		up = -1
	} else if s.inner < 1 {
		each = 2
	}
	var p vg.Path
	for i := range s.n * each {
		r := float64(sty.Radius) * 1.25
		if i%2 == 1 && each == 2 {
			r *= s.inner
		}
		a := 2 * math.Pi * float64(i) / float64(s.n*each)
		pt := vg.Point{X: at.X + vg.Length(r*math.Sin(a)), Y: at.Y + vg.Length(up*r*math.Cos(a))}
		if i == 0 {
			p.Move(pt)
		} else {
			p.Line(pt)
		}
	}
	p.Close()
	c.SetColor(sty.Color)
	c.Fill(p)
}
