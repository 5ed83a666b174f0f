// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/slipway-net/slipway/portfwd/unixhttp"
)

const (
	// captureBacklog and captureBytes bound the frames that wait for a client to read
	// its capture, in number and in bytes; above them frames are left out, since
	// traffic never waits for a client.
	captureBacklog = 4096
	captureBytes   = 8 << 20
)

// A captureSlot has the capture of a client, of which there is one at a time. The
// zero captureSlot is free.
type captureSlot struct {
	mu  sync.Mutex
	end chan struct{} // closed to end the capture; nil where there is none
}

// startCapture streams the tap's frames to a client, until the client leaves or
// somebody ends it.
func (a *API) startCapture(w http.ResponseWriter, r *http.Request) {
	q := newFrameQueue()
	end := make(chan struct{})
	if err := a.capture.take(end, func() error { return a.session.StartCapture(q) }); err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, ErrCapturing) {
			status = http.StatusConflict
		}
		unixhttp.Fail(w, status, err.Error())
		return
	}
	defer func() {
		_ = a.capture.free(end, a.session.StopCapture) // a queue takes all
		if n := q.left.Load(); n > 0 {
			a.session.log.Info("a capture's client was too slow", "frames left out", n)
		}
	}()
	w.Header().Set("Content-Type", "application/vnd.tcpdump.pcap")
	if unixhttp.Endless(w) != nil {
		return // the client has gone
	}
	flush := http.NewResponseController(w)
	for {
		select {
		case <-end:
			return
		case <-r.Context().Done():
			return
		case b := <-q.frames:
			q.bytes.Add(-int64(len(b)))
			if _, err := w.Write(b); err != nil {
				return
			}
		}
		if len(q.frames) == 0 && flush.Flush() != nil {
			return
		}
	}
}

// stopCapture ends the capture that a client has.
func (a *API) stopCapture(w http.ResponseWriter, r *http.Request) {
	if !a.capture.stop() {
		unixhttp.Fail(w, http.StatusNotFound, "no client of this socket captures frames")
		return
	}
	w.WriteHeader(http.StatusOK)
}

// take starts a capture that ends when end is closed.
func (s *captureSlot) take(end chan struct{}, start func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := start(); err != nil {
		return err
	}
	s.end = end
	return nil
}

// free stops the capture of end.
func (s *captureSlot) free(end chan struct{}, stop func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == end {
		s.end = nil
	}
	return stop()
}

// stop asks the capture to end, and reports whether there was one.
func (s *captureSlot) stop() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil {
		return false
	}
	close(s.end)
	s.end = nil
	return true
}

// A frameQueue takes writes without ever waiting.
type frameQueue struct {
	frames chan []byte
	bytes  atomic.Int64 // in frames
	left   atomic.Int64 // how many frames were left out
}

func newFrameQueue() *frameQueue { return &frameQueue{frames: make(chan []byte, captureBacklog)} }

// Write implements io.Writer.
func (q *frameQueue) Write(b []byte) (int, error) {
	if q.bytes.Add(int64(len(b))) <= captureBytes {
		select {
		case q.frames <- append([]byte(nil), b...):
			return len(b), nil
		default:
		}
	}
	// The client does not keep up: leave the frame out.
	q.bytes.Add(-int64(len(b)))
	q.left.Add(1)
	return len(b), nil
}
