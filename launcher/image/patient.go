// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// idleTimeout is how long a registry may be silent: before it answers, and between two
// pieces of an answer. Slow ones say something all the same.
const idleTimeout = time.Minute

// errIdle is the error of a registry that is silent.
var errIdle = errors.New("it is silent: try again, or look at the network")

// A patient transport gives up what is silent for longer than idle. The connection would
// be kept forever where its other end has gone without a word.
type patient struct {
	base http.RoundTripper
	idle time.Duration
}

// RoundTrip implements http.RoundTripper.
func (p *patient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(p.idle, func() { cancel(errIdle) })
	resp, err := p.base.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	if err != nil {
		err = p.explain(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &patientBody{ReadCloser: resp.Body, p: p, ctx: ctx, timer: timer, cancel: cancel}
	return resp, nil
}

// explain is err, or why the request was given up.
func (p *patient) explain(ctx context.Context, err error) error {
	if context.Cause(ctx) == errIdle {
		return fmt.Errorf("nothing came from the registry for %v: %w", p.idle, errIdle)
	}
	return err
}

// A patientBody is what a registry answers. Time counts only while somebody reads.
type patientBody struct {
	io.ReadCloser
	p      *patient
	ctx    context.Context // of the request
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

// Read implements io.Reader.
func (b *patientBody) Read(buf []byte) (int, error) {
	b.timer.Reset(b.p.idle)
	n, err := b.ReadCloser.Read(buf)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.p.explain(b.ctx, err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *patientBody) Close() error {
	b.timer.Stop()
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}
