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
	total, over int
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

// newProgress makes the progress of total steps.
func newProgress(w io.Writer, total int) *progress {
	s := screenOf(w, os.Getenv)
	p := &progress{w: &lockedWriter{w: w}, total: total, now: time.Now, color: s.color}
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

// setTotal corrects the number of steps.
func (p *progress) setTotal(n int) {
	p.total = n
	if p.bar != nil {
		p.bar.SetTotal(int64(n))
	}
}

// begin shows the step that runs now. Its name begins with that of its case.
func (p *progress) begin(what string) {
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
	if p.bar != nil {
		p.bar.SetCurrent(int64(p.over))
	}
	if r.Err != "" {
		p.announce(fmt.Sprintf("%s, %s: %s", r.Case, r.Subject, r.Err))
	}
}

// skip counts a step that is left out.
func (p *progress) skip() { p.setTotal(p.total - 1) }

// end takes the bar away.
func (p *progress) end() {
	if p.bar != nil && p.bar.IsStarted() {
		p.bar.Finish()
	}
}

// left says about how much longer it takes, once that can be told.
func (p *progress) left() string {
	if p.over == 0 {
		return ""
	}
	left := p.now().Sub(p.start) / time.Duration(p.over) * time.Duration(max(p.total-p.over, 0))
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
