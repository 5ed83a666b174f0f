// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cheggaaa/pb/v3"
	"github.com/slipway-net/slipway/launcher/store"
)

// refreshRate is how often the bar moves.
const refreshRate = 200 * time.Millisecond

// barTemplate is the bar in the library's language.
const barTemplate = `{{string . "what"}} {{counters . }} {{bar . "▕" "█" "▌" " " "▏"}} {{percent . }} {{speed . "%s/s" ""}} {{rtime . "%s left" "%s" ""}}`

// A Progress shows how far the layers of an image are: on a terminal one bar of all
// bytes, else a line for each layer. It serves one Add after another. A nil Progress
// shows nothing.
type Progress struct {
	w        io.Writer
	terminal bool

	mu   sync.Mutex
	bar  *pb.ProgressBar // nil without a terminal, and between two images
	left int             // layers
}

// NewProgress makes a progress that is written to w, which is a terminal or is not.
func NewProgress(w io.Writer, terminal bool) *Progress { return &Progress{w: w, terminal: terminal} }

// begin shows that layers are to come.
func (p *Progress) begin(missing []store.Source) {
	if p == nil || len(missing) == 0 {
		return
	}
	var total int64
	for _, l := range missing {
		total += max(l.Size, 0)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = len(missing)
	if !p.terminal {
		return
	}
	p.start(total)
	p.say()
}

// start makes the bar; p.mu is held.
func (p *Progress) start(total int64) {
	p.bar = pb.New64(total).SetTemplateString(barTemplate).SetRefreshRate(refreshRate).SetWriter(p.w)
	// Said, since the library cannot tell what is behind a writer.
	for key, value := range map[any]any{pb.Bytes: true, pb.Terminal: true, pb.ReturnSymbol: "\r", pb.CleanOnFinish: true, "what": ""} {
		p.bar.Set(key, value)
	}
	p.bar.Start()
}

// Copy shows that content is copied, total bytes of it, and why. The function that it
// returns takes how many more were.
func (p *Progress) Copy(total int64, why string) func(n int64) {
	if !p.terminal {
		fmt.Fprintln(p.w, "copying the image, "+why)
		return func(int64) {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start(total)
	p.bar.Set("what", "copying, "+why)
	bar := p.bar
	return func(n int64) { bar.Add64(n) }
}

// say names what is going on; p.mu is held.
func (p *Progress) say() {
	what := "unpacking"
	if p.left > 0 {
		what = fmt.Sprintf("%d layers", p.left)
	}
	if p.left == 1 {
		what = "1 layer"
	}
	p.bar.Set("what", what)
}

// End takes the bar away.
func (p *Progress) End() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Finish()
		p.bar = nil
	}
}

// watch returns l, and what to call when it is there, such that its bytes are shown.
func (p *Progress) watch(l store.Source) (store.Source, func(error)) {
	if p == nil {
		return l, func(error) {}
	}
	p.mu.Lock()
	bar := p.bar
	p.mu.Unlock()
	seen := &seen{bar: bar}
	open := l.Open
	l.Open = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		if err != nil {
			return nil, err
		}
		seen.ReadCloser = r
		return seen, nil
	}
	return l, func(err error) {
		if err != nil {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.left--
		if bar != nil {
			bar.Add64(max(l.Size, 0) - seen.n) // another process may have brought it
			p.say()
			return
		}
		fmt.Fprintf(p.w, "layer %s: %s\n", l.DiffID.Short(), Size(max(l.Size, seen.n)))
	}
}

// seen counts what is read.
type seen struct {
	io.ReadCloser
	bar *pb.ProgressBar // nil for none
	n   int64
}

func (s *seen) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.n += int64(n)
	if s.bar != nil {
		s.bar.Add(n)
	}
	return n, err
}

// Size is a number of bytes for people, in powers of 1000 as registries and disks
// have it.
func Size(n int64) string {
	const step = 1000
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for v >= step && unit < len("kMGTPE") {
		v /= step
		unit++
	}
	return fmt.Sprintf("%.3g %cB", v, "kMGTPE"[unit-1])
}
