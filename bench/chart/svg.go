// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"encoding/xml"
	"errors"
	"fmt"
	"image/color"
	"math"
	"regexp"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Sizes in the drawing's own units, of which the page makes what fits.
const (
	textSize  = 11
	labelSize = 9.5
	lineWidth = 1.75
	thinWidth = 0.75
)

// Text says what a drawing is about. ID names it on its page and must be unique
// there; Title and Desc are read out in place of the drawing.
type Text struct {
	ID, Title, Desc string
}

// idForm is what an ID may look like: it goes into attributes.
var idForm = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// newPlot returns an empty plot in the house's style.
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle = draw.LineStyle{Color: grid, Width: thinWidth}
		a.Tick.LineStyle = draw.LineStyle{Color: grid, Width: thinWidth}
		a.Tick.Length = 3
		a.Padding = 0
		setFont(&a.Tick.Label.Font, textSize)
		setFont(&a.Label.TextStyle.Font, textSize)
		a.Tick.Label.Color, a.Label.TextStyle.Color = ink, muted
	}
	return p
}

func setFont(f *font.Font, size font.Length) {
	f.Typeface, f.Variant, f.Size = "Liberation", "Sans", size
}

// render draws the plot at the size, in the drawing's units.
func render(p *plot.Plot, t Text, w, h vg.Length) (string, error) {
	if !idForm.MatchString(t.ID) {
		return "", fmt.Errorf("draw %q: bad id %q", t.Title, t.ID)
	}
	c := vgsvg.NewWith(vgsvg.UseWH(w, h))
	p.Draw(draw.New(c))
	var b strings.Builder
	if _, err := c.WriteTo(&b); err != nil {
		return "", fmt.Errorf("draw %q: %w", t.Title, err)
	}
	_, body, ok := strings.Cut(b.String(), "<svg ")
	if ok {
		_, body, ok = strings.Cut(body, ">")
	}
	if !ok {
		return "", fmt.Errorf("draw %q: the library wrote no SVG", t.Title)
	}
	// Text that is black has no colour of its own, and none needs a font: both come
	// from the page.
	body = fontStyle.ReplaceAllString(body, "font-size:")
	head := fmt.Sprintf(`<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img" aria-labelledby="%s-t %s-d"><title id="%s-t">%s</title><desc id="%s-d">%s</desc>`,
		w.Points(), h.Points(), t.ID, t.ID, t.ID, escape(t.Title), t.ID, escape(t.Desc))
	return head + paint(body), nil
}

// fontStyle is what the library says of a font, up to its size.
var fontStyle = regexp.MustCompile(`font-family:[A-Za-z ]+;font-variant:[a-z]+;font-weight:[a-z]+;font-style:[a-z]+;font-size:`)

func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s))
	return b.String()
}

// The range of what can be drawn: within it, no arithmetic on an axis leaves what a
// float64 holds. What lies below counts as zero.
const (
	Smallest = 1e-9
	Largest  = 1e15
)

// ErrRange is the error for a value that cannot be drawn.
var ErrRange = errors.New("beyond what can be drawn")

func inRange(v ...float64) error {
	for _, x := range v {
		if math.IsNaN(x) || math.Abs(x) > Largest {
			return fmt.Errorf("value %v: %w", x, ErrRange)
		}
	}
	return nil
}

// oneLine cuts a label to what fits below an axis.
func oneLine(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// tickCount is about how many ticks a linear axis gets.
const tickCount = 5

// step returns the distance of the ticks of a linear axis from 0 to top: 1, 2 or 5
// times a power of ten.
func step(top float64) float64 {
	raw := top / tickCount
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if raw <= m*unit {
			return m * unit
		}
	}
	return 10 * unit
}

// linear returns the ticks from 0 to top.
func linear(top float64) plot.ConstantTicks {
	var all plot.ConstantTicks
	d := step(top)
	for i := 0; float64(i)*d <= top*(1+1e-9); i++ {
		v := float64(i) * d
		all = append(all, plot.Tick{Value: v, Label: tickLabel(v)})
	}
	return all
}

// logarithmic returns ticks at 1, 2 and 5 times the powers of ten, from below low to
// above high, which must be positive.
func logarithmic(low, high float64) plot.ConstantTicks {
	var all plot.ConstantTicks
	for e := math.Floor(math.Log10(low)); ; e++ {
		for _, m := range []float64{1, 2, 5} {
			v := m * math.Pow(10, e)
			if v < low/2.5 {
				continue
			}
			all = append(all, plot.Tick{Value: v, Label: tickLabel(v)})
			if v >= high {
				return all
			}
		}
	}
}

// tickLabel is the value without an exponent.
func tickLabel(v float64) string {
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}
