// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"
)

// A progress is the line on standard error that says how far the run is. It is
// used by one goroutine.
type progress struct {
	w           io.Writer
	total, over int
	start       time.Time
}

func newProgress(w io.Writer, total int) *progress {
	return &progress{w: w, total: total, start: time.Now()}
}

// setTotal corrects the number of steps.
func (p *progress) setTotal(n int) { p.total = n }

// announce shows a line that stays.
func (p *progress) announce(s string) { p.show(s + "\n") }

// begin shows the step that runs now.
func (p *progress) begin(what string) {
	left := "?"
	if p.over > 0 {
		spent := time.Since(p.start)
		left = (spent / time.Duration(p.over) * time.Duration(p.total-p.over)).Round(time.Second).String()
	}
	p.show(fmt.Sprintf("[%d/%d, %s left] %s", p.over+1, p.total, left, what))
}

// done counts a step, and keeps on the screen why it failed if it did.
func (p *progress) done(r *Record) {
	p.over++
	if r.Err != "" {
		p.show(fmt.Sprintf("%s %s: %s\n", r.Case, r.Subject, r.Err))
	}
}

// skip counts a step that is left out.
func (p *progress) skip() { p.total-- }

// end clears the line.
func (p *progress) end() { p.show("") }

func (p *progress) show(s string) {
	const eraseLine = "\r\x1b[K" // ECMA-48 EL
	fmt.Fprint(p.w, eraseLine+s)
}
