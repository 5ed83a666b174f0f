// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// logBacklog is how many lines may wait for the reader of the log.
	logBacklog = 1024
	// logFlush is how long the end of the program waits for that reader.
	logFlush = time.Second
)

// A logWriter writes lines to a slower writer without ever waiting for it: the
// log is written by who carries the traffic, and a reader that has stopped
// reading must not stop that. What does not fit the backlog is left out, and
// counted in the log itself. It is safe for concurrent use.
type logWriter struct {
	mu      sync.Mutex
	lines   chan []byte
	dropped int
	closed  bool
	done    chan struct{}
}

// newLogWriter starts writing to w. The caller closes it.
func newLogWriter(w io.Writer) *logWriter {
	l := &logWriter{lines: make(chan []byte, logBacklog), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for b := range l.lines {
			_, _ = w.Write(b) // there is nowhere to say that the log cannot be written
		}
	}()
	return l
}

// Write implements io.Writer; each call is a line, and none fails.
func (l *logWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(b), nil
	}
	if l.dropped > 0 && cap(l.lines)-len(l.lines) >= 2 {
		l.lines <- fmt.Appendf(nil, "slipway: %d log lines left out: their reader was too slow\n", l.dropped)
		l.dropped = 0
	}
	select {
	case l.lines <- append([]byte(nil), b...):
	default:
		l.dropped++
	}
	return len(b), nil
}

// Close waits, for a moment, until what was written has been read. It may be
// called again.
func (l *logWriter) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.lines)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(logFlush):
	}
	return nil
}
