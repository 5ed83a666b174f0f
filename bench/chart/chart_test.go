// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/bench/chart"
)

// hostile is text that must stay text.
const hostile = `</text><script>alert(1)</script>" onload="x`

func bars() chart.Bars {
	return chart.Bars{
		Text: chart.Text{ID: "b-1", Title: "Rate <1>", Desc: hostile}, Unit: "Gbit/s", Slots: []int{0, 3},
		Groups: []chart.Group{
			{Label: "up", Values: []chart.Value{{Known: true, Median: 2, Min: 1, Max: 4, Label: "2.0"}, {Known: true, Doubtful: true, Median: 3, Min: 3, Max: 3, Label: "3.0"}}},
			{Label: hostile, Values: []chart.Value{{}, {Known: true, Median: 1, Min: 1, Max: 1, Label: hostile}}},
		},
	}
}

func lines() chart.Lines {
	return chart.Lines{
		Text: chart.Text{ID: "l", Title: "Loss", Desc: "d"}, X: "offered " + hostile, Y: "%",
		Lines: []chart.Line{{Slot: 1, Points: []chart.Point{{X: 20, Y: 1, Min: 0, Max: 2}, {X: 40, Y: 3, Min: 3, Max: 3}}}, {Slot: 2}},
	}
}

// elements parses the drawing, as strictly as XML asks for, and returns its
// elements' names, attributes and texts.
func elements(t *testing.T, svg string) (names map[string]int, attrs, texts []string) {
	t.Helper()
	names = map[string]int{}
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return names, attrs, texts
		}
		if err != nil {
			t.Fatalf("not well formed: %v\n%s", err, svg)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			names[e.Name.Local]++
			for _, a := range e.Attr {
				attrs = append(attrs, a.Name.Local)
			}
		case xml.CharData:
			texts = append(texts, string(e))
		}
	}
}

func TestSVG(t *testing.T) {
	logBars := bars()
	logBars.Log = true
	tests := []struct {
		name string
		draw func() (string, error)
		want []string
	}{
		{"bars", bars().SVG, []string{"missing", "2.0", "Rate &lt;1&gt;", "var(--plot-s3)", "var(--plot-surface)", "stroke-dasharray"}},
		{"dots", logBars.SVG, []string{"missing", "2.0", "var(--plot-s0)"}},
		{"lines", lines().SVG, []string{"var(--plot-s1)", ">20<", ">1<"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svg, err := tt.draw()
			if err != nil {
				t.Fatal(err)
			}
			names, attrs, _ := elements(t, svg)
			for n := range names {
				if !strings.Contains(" svg title desc g path text ", " "+n+" ") {
					t.Errorf("unexpected element %q", n)
				}
			}
			for _, a := range attrs {
				if strings.HasPrefix(a, "on") || a == "href" {
					t.Errorf("unexpected attribute %q", a)
				}
			}
			for _, want := range tt.want {
				if !strings.Contains(svg, want) {
					t.Errorf("no %q in\n%s", want, svg)
				}
			}
			for _, never := range []string{"#0101", "#0102", "font-family", "<?xml", "pt\""} {
				if strings.Contains(svg, never) {
					t.Errorf("%q is left in\n%s", never, svg)
				}
			}
		})
	}
}

func TestSVGRefuses(t *testing.T) {
	tests := []struct {
		name string
		draw func() (string, error)
		want string
	}{
		{"not finite", func() (string, error) {
			b := bars()
			b.Groups[0].Values[0].Max = math.Inf(1)
			return b.SVG()
		}, "beyond"},
		{"out of order", func() (string, error) {
			b := bars()
			b.Groups[0].Values[0].Min = 3
			return b.SVG()
		}, "not between"},
		{"no logarithm", func() (string, error) {
			b := bars()
			b.Log, b.Groups[0].Values[0].Min = true, 0
			return b.SVG()
		}, "no logarithm"},
		{"too few values", func() (string, error) {
			b := bars()
			b.Slots = []int{1, 2, 3}
			return b.SVG()
		}, "2 values for 3 series"},
		{"next to nothing", func() (string, error) {
			return chart.Bars{Text: chart.Text{ID: "x"}, Slots: []int{0}, Groups: []chart.Group{{Values: []chart.Value{{Known: true, Max: 5e-324}}}}}.SVG()
		}, "no value"},
		{"nothing", func() (string, error) { return chart.Bars{Text: chart.Text{ID: "x"}}.SVG() }, "no value"},
		{"bad id", func() (string, error) {
			b := bars()
			b.ID = `x" onload="`
			return b.SVG()
		}, "bad id"},
		{"no lines", func() (string, error) { return chart.Lines{Text: chart.Text{ID: "x"}}.SVG() }, "no point"},
		{"line not finite", func() (string, error) {
			l := lines()
			l.Lines[0].Points[0].Y = math.NaN()
			return l.SVG()
		}, "beyond"},
		{"line at zero", func() (string, error) {
			l := lines()
			l.Lines[0].Points[0].X = 0
			return l.SVG()
		}, "bad point"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.draw(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// luminance is the relative luminance of WCAG 2.2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	weights := [3]float64{0.2126, 0.7152, 0.0722}
	sum := 0.0
	for i, w := range weights {
		v, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(v) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += w * c
	}
	return sum
}

// TestContrast holds each series' colour to WCAG 2.2 §1.4.11 in both schemes.
func TestContrast(t *testing.T) {
	contrast := func(a, b string) float64 {
		x, y := luminance(t, a), luminance(t, b)
		return (max(x, y) + 0.05) / (min(x, y) + 0.05)
	}
	const least = 3
	for i, s := range chart.Palette() {
		if c := contrast(s.Light, chart.Surface().Light); c < least {
			t.Errorf("slot %d, light: contrast %.2f", i, c)
		}
		if c := contrast(s.Dark, chart.Surface().Dark); c < least {
			t.Errorf("slot %d, dark: contrast %.2f", i, c)
		}
	}
}

func TestStylesNameEachVariable(t *testing.T) {
	light, dark := chart.Styles()
	for i := range chart.Slots {
		name := "--plot-s" + strconv.Itoa(i) + ":#"
		if !strings.Contains(light, name) || !strings.Contains(dark, name) {
			t.Errorf("no %s in both schemes", name)
		}
	}
	if chart.Mark(0) == chart.Mark(1) || chart.Mark(0) != chart.Mark(chart.Slots) {
		t.Error("marks do not follow the slots")
	}
}
