// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cheggaaa/pb/v3"
)

// A progress says on standard error how far the run is: a bar on a terminal, else a
// line now and then. It is used by one goroutine, and shows nothing before the first
// begin and after end, which is idempotent.
type progress struct {
	w           *lockedWriter
	bar         *pb.ProgressBar // nil for lines
	color       bool
	total, over int           // steps
	worth, gone time.Duration // the same by their estimates
	price       time.Duration // of the step that runs
	limit       time.Duration // of the run; 0 for none
	start       time.Time
	now         func() time.Time
	last        string    // the case that the last line named
	said        time.Time // when there was a line last
}

// A progress without a terminal is silent within one case for quietTime, unless it
// has fewSteps.
const (
	quietTime = 30 * time.Second
	fewSteps  = 20
)

// refreshRate is how often the bar's clock moves.
const refreshRate = 500 * time.Millisecond

// barTemplate is the bar in the library's language; it may take as much width as is
// left.
const barTemplate = `{{counters . }} {{bar . "▕" "█" "▌" " " "▏"}} {{etime .}}{{string . "left"}}  {{string . "what"}}`

// newProgress makes the progress of a run that aims to end within the limit.
func newProgress(w io.Writer, limit time.Duration) *progress {
	s := screenOf(w, os.Getenv)
	p := &progress{w: &lockedWriter{w: w}, limit: limit, now: time.Now, color: s.color}
	p.start = p.now()
	if s.tty {
		p.makeBar()
	}
	return p
}

// makeBar has a bar instead of lines.
func (p *progress) makeBar() {
	p.bar = pb.New(p.total).SetTemplateString(barTemplate).SetRefreshRate(refreshRate).SetWriter(p.w)
	for key, value := range map[any]any{
		// Said, since the library cannot tell what is behind our writer.
		pb.Terminal: true, pb.ReturnSymbol: "\r",
		pb.CleanOnFinish: true, pb.Color: p.color, "left": "", "what": "",
	} {
		p.bar.Set(key, value)
	}
}

// setTotal sets the number of steps and what they are estimated to take together.
func (p *progress) setTotal(n int, worth time.Duration) {
	p.total, p.worth = n, worth
	if p.bar != nil {
		p.bar.SetTotal(int64(n))
	}
}

// begin shows the step that runs now, and is estimated to take price. Its name begins
// with that of its case.
func (p *progress) begin(what string, price time.Duration) {
	p.price = price
	what = visible(what)
	if p.bar == nil {
		p.line(what)
		return
	}
	if !p.bar.IsStarted() {
		p.bar.Start()
	}
	p.bar.Set("what", what).Set("left", p.left()).SetCurrent(int64(p.over))
}

// done counts a step, and keeps on the screen why it failed if it did.
func (p *progress) done(r *Record) {
	p.over++
	p.gone += p.price
	if p.bar != nil {
		p.bar.SetCurrent(int64(p.over))
	}
	if r.Err != "" {
		p.announce(fmt.Sprintf("%s, %s: %s", r.Case, r.Subject, r.Err))
	}
}

// skip counts a step that is left out.
func (p *progress) skip(price time.Duration) { p.setTotal(p.total-1, p.worth-price) }

// end takes the bar away.
func (p *progress) end() {
	if p.bar != nil && p.bar.IsStarted() {
		p.bar.Finish()
	}
}

// left says about how much longer it takes, once that can be told: as long as was
// estimated, times how far estimates were off so far. Repeats beyond the limit are
// left out.
func (p *progress) left() string {
	if p.gone <= 0 {
		return ""
	}
	passed := p.now().Sub(p.start)
	left := time.Duration(float64(passed) / float64(p.gone) * float64(max(p.worth-p.gone, 0)))
	if rest := p.limit - passed; rest > 0 {
		left = min(left, rest)
	}
	return ", about " + left.Round(time.Second).String() + " left"
}

// line prints the step as a line, of many only where the case is new or the last
// line is long ago.
func (p *progress) line(what string) {
	of, _, _ := strings.Cut(what, " ")
	now := p.now()
	if of == p.last && now.Sub(p.said) < quietTime && p.total > fewSteps {
		return
	}
	p.last, p.said = of, now
	p.announce(fmt.Sprintf("[%d/%d] %s%s: %s", p.over+1, p.total, now.Sub(p.start).Round(time.Second), p.left(), what))
}

// announce shows a line that stays, above the bar.
func (p *progress) announce(s string) {
	const eraseLine = "\r\x1b[K" // ECMA-48 EL
	s = visible(s) + "\n"
	if p.bar != nil {
		s = eraseLine + s
	}
	io.WriteString(p.w, s)
}

// A lockedWriter keeps what goroutines write apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
