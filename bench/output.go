// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxOutput is how much of a program's output is kept, in bytes: the end of it.
	maxOutput = 4 << 10
	// maxHead is how much of the output of a program that is run for its version or its
	// help is kept, in bytes: the beginning of it.
	maxHead = 64 << 10
	// maxSaid bounds what the report quotes of it, in characters.
	maxSaid = 300
	// lastWords bounds the wait for output that a process left in the pipe.
	lastWords = 100 * time.Millisecond
)

// A tail keeps the end of what is written to it: a helper that prints for ever must
// fill neither the disk nor memory. It is safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	end []byte
}

// Write implements io.Writer. It never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b[max(0, len(b)-maxOutput):]...)
	if over := len(t.end) - maxOutput; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(b), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.end)
}

// An outputPipe collects what a helper prints, also from the background, where
// exec.Cmd's own pipes would keep Wait from returning.
type outputPipe struct {
	tail
	read *os.File
	over chan struct{} // closed when nothing more can come
}

// newOutputPipe returns the collector and the end to hand to the helper, which the
// caller closes once it has. Close ends the collector.
func newOutputPipe() (*outputPipe, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pipe for output: %w", err)
	}
	o := &outputPipe{read: r, over: make(chan struct{})}
	return o, w, nil
}

// collect reads until the helper has closed its end or close is called.
func (o *outputPipe) collect() {
	defer close(o.over)
	// An error means that the pipe is closed: then what was read is all there is.
	_, _ = o.read.WriteTo(&o.tail)
}

// close ends collect.
func (o *outputPipe) close() { o.read.Close() }

// said returns the last line of what was printed by a process that has ended.
func (o *outputPipe) said() string {
	select {
	case <-o.over:
	case <-time.After(lastWords): // a child of it lives, and may print
	}
	if text := excerpt(lastLine(o.String())); text != "" {
		return text
	}
	return "(it printed nothing)"
}

// excerpt makes a program's output fit for a report: one line of bounded length
// without control characters, which could paint over a terminal.
func excerpt(s string) string {
	s = visible(strings.TrimSpace(s))
	if chars := []rune(s); len(chars) > maxSaid {
		return string(chars[:maxSaid]) + "…"
	}
	return s
}

// firstLine runs a program for the first line that it prints, which may be empty.
func firstLine(ctx context.Context, limit time.Duration, path string, args ...string) (string, error) {
	out, err := runShort(ctx, limit, path, args...)
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	return excerpt(line), err
}

// runShort runs a program and returns the beginning of what it prints. A program
// that does not end within limit is killed.
func runShort(ctx context.Context, limit time.Duration, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	var out head
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = lastWords // a child of it may hold the pipe
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("it did not end within %s", limit)
	} else if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return string(out), err
}

// A head keeps the beginning of what is written to it.
type head []byte

// Write implements io.Writer. It never fails.
func (h *head) Write(b []byte) (int, error) {
	*h = append(*h, b[:min(len(b), maxHead-len(*h))]...)
	return len(b), nil
}

// describeEnd says how a process ended: "exit status 1", "signal: killed".
func describeEnd(ws unix.WaitStatus) string {
	switch {
	case ws.Signaled():
		return fmt.Sprintf("signal: %s", ws.Signal())
	case ws.Exited():
		return fmt.Sprintf("exit status %d", ws.ExitStatus())
	}
	return "in an unknown way"
}
