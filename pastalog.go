// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"sync"
	"syscall"

	"github.com/slipway-net/slipway/netstack/attach/pasta"
)

// A pastaLog is a log that goes to standard error until the program leaves its caller,
// and to the system's from then on; or to a file all the time. It is safe for concurrent
// use.
type pastaLog struct {
	logger *slog.Logger

	mu   sync.Mutex
	out  io.Writer
	next io.WriteCloser // in the background; nil for nothing
	gone bool
}

// newPastaLog opens what the log will need, while that is in reach. The caller closes it.
func newPastaLog(o pasta.Options, stderr io.Writer) (*pastaLog, error) {
	l := &pastaLog{out: stderr}
	if o.LogFile != "" {
		const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC | syscall.O_NONBLOCK
		f, err := os.OpenFile(o.LogFile, flags, 0o600)
		if err != nil {
			return nil, fmt.Errorf("make the log file: %w", err)
		}
		w := newLogWriter(&roundLog{file: f, size: o.LogSize})
		l.out, l.next = w, closers{w, f}
	} else if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, pastaName); err == nil && !o.Foreground {
		l.next = closers{newLogWriter(w), w}
	}
	l.logger = slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: pastaLevel(o.Verbosity)}))
	return l, nil
}

// Write implements io.Writer.
func (l *pastaLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return len(b), nil
	}
	return l.out.Write(b)
}

// leave writes no more to standard error. A host without a system log gets none.
func (l *pastaLog) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out, l.gone = nil, true
	if l.next != nil {
		l.out = l.next
	}
}

// left reports whether it has left.
func (l *pastaLog) left() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

// Close waits, for a moment, until what was logged is written.
func (l *pastaLog) Close() error {
	if l.next == nil {
		return nil
	}
	return l.next.Close()
}

// closers is a writer that is closed together with what it writes to.
type closers struct {
	*logWriter
	under io.Closer
}

// Close closes both.
func (c closers) Close() error {
	c.logWriter.Close()
	return c.under.Close()
}

// A roundLog writes to a file that begins again, over its oldest lines, when it has its
// size: the process may neither cut nor open files any more.
type roundLog struct {
	file     *os.File
	size, at int64 // bytes
}

// Write implements io.Writer.
func (r *roundLog) Write(b []byte) (int, error) {
	if r.at > 0 && r.at+int64(len(b)) > r.size {
		if _, err := r.file.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		r.at = 0
	}
	n, err := r.file.Write(b)
	r.at += int64(n)
	return n, err
}
