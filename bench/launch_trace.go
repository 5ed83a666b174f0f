// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// strace counts what a container costs. newuidmap, which engines run, is set-user-ID
// root, and is not where a plain user traces it. So where root started the bench, the
// front traces, and strace becomes the plain user (-u), which keeps such programs what
// they are.

// A traceJob is a command whose system calls are to be counted.
type traceJob struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
	User string   `json:"user,omitempty"` // whom strace becomes; empty for nobody else
}

// A traceResult is what came of it.
type traceResult struct {
	Counts traceCounts `json:"counts"`
	Output string      `json:"output"` // the beginning
	Err    string      `json:"error,omitempty"`
}

// traceCounts are what a command and all processes of it did.
type traceCounts struct {
	Execs int // programs executed: execve(2) and execveat(2) that succeeded
	Calls int // system calls
}

// A tracer counts.
type tracer func(ctx context.Context, j traceJob) traceResult

// count counts what a container of the subject costs.
func (y *yard) count(ctx context.Context, s Subject, network bool) (traceCounts, error) {
	r := y.tracer(ctx, traceJob{Argv: y.argv(s, network, false), Env: y.env, Dir: y.dir})
	if r.Err != "" {
		return traceCounts{}, errors.Join(errors.New(r.Err), y.settle())
	}
	if !strings.Contains(r.Output, y.line) {
		return traceCounts{}, errors.Join(fmt.Errorf("traced by strace, the program did not run: %s", excerpt(lastLine(r.Output))), y.settle())
	}
	return r.Counts, y.settle()
}

// traceTime bounds one traced run, which takes many times as long as another, and lasts
// until everything that it left in the background has ended.
const traceTime = 10 * time.Second

// straceColumns are those of strace's summary. straceCalls leaves out sleeps: how often a
// program's runtime sleeps while others are slowed down by strace says nothing of it.
const (
	straceColumns = "name,calls,errors"
	straceCalls   = "trace=!nanosleep,clock_nanosleep"
)

// strace traces the command. What that leaves in the background is our child if we are a
// subreaper.
func strace(ctx context.Context, home *place, j traceJob) traceResult {
	fail := func(err error) traceResult { return traceResult{Err: err.Error()} }
	tool, err := exec.LookPath("strace")
	if err != nil {
		return fail(fmt.Errorf("strace is not installed: %w: install the package strace", err))
	}
	dir, err := os.MkdirTemp("", "slipway-strace-")
	if err != nil {
		return fail(fmt.Errorf("keep what strace says: %w", err))
	}
	defer os.RemoveAll(dir)
	summary := filepath.Join(dir, "summary")
	args := []string{"-f", "-c", "-U", straceColumns, "-e", straceCalls, "-o", summary}
	if j.User != "" {
		args = append(args, "-u", j.User)
	}
	ctx, cancel := context.WithTimeout(ctx, traceTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, concat(args, []string{"--"}, j.Argv)...)
	var out head
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = j.Env, j.Dir, &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = lastWords // a process in the background may hold the pipe
	if err = home.start(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		err = fmt.Errorf("traced by strace: %w: %s", err, excerpt(lastLine(string(out))))
		if j.User == "" && os.Getuid() != 0 {
			err = fmt.Errorf("%w (newuidmap is set-user-ID root, and is not where a plain user traces it: start the bench as root, who becomes -user)", err)
		}
		return fail(err)
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return fail(fmt.Errorf("read what strace says: %w", err))
	}
	counts, err := parseStrace(string(text))
	if err != nil {
		return fail(err)
	}
	return traceResult{Counts: counts, Output: string(out)}
}

// parseStrace reads a summary of straceColumns: a name, a number of calls, and one of
// those that failed where some did.
func parseStrace(s string) (traceCounts, error) {
	var c traceCounts
	known := false
	for l := range strings.Lines(s) {
		f := strings.Fields(l)
		if len(f) != 2 && len(f) != 3 {
			continue
		}
		calls, err := strconv.Atoi(f[1])
		if err != nil || calls < 0 {
			continue // a heading
		}
		failed := 0
		if len(f) == 3 {
			if failed, err = strconv.Atoi(f[2]); err != nil || failed < 0 || failed > calls {
				return c, fmt.Errorf("read what strace says: %q", excerpt(l))
			}
		}
		switch f[0] {
		case "total":
			c.Calls, known = calls, true
		case "execve", "execveat":
			c.Execs += calls - failed
		}
	}
	if !known || c.Execs < 1 {
		return c, fmt.Errorf("read what strace says: no total, or no program was executed: %q", excerpt(lastLine(s)))
	}
	return c, nil
}

// traceByFront has the front trace: it is told by an event and answers on our standard
// input.
func traceByFront(tell func(event), answers *json.Decoder) tracer {
	return func(_ context.Context, j traceJob) traceResult {
		tell(event{Trace: &j})
		var r traceResult
		if err := answers.Decode(&r); err != nil {
			return traceResult{Err: fmt.Errorf("ask the front to trace: %w", err).Error()}
		}
		return r
	}
}

// answerTrace has a process of its own, which ends what it leaves, trace what the stage
// asks for, and answers. A stage that is gone needs no answer.
func (f *front) answerTrace(ctx context.Context, j traceJob) {
	j.User = f.opts.User
	var r traceResult
	arg, err := json.Marshal(j)
	if err == nil {
		cmd := exec.CommandContext(ctx, selfExe, stageTrace, string(arg))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		if err = f.home.start(cmd); err == nil {
			err = errors.Join(cmd.Wait(), json.Unmarshal(out.Bytes(), &r))
		}
	}
	if err != nil {
		r = traceResult{Err: fmt.Sprintf("trace: %v", err)}
	}
	_ = json.NewEncoder(f.answers).Encode(r)
}

// runTrace is that process. It writes its result.
func runTrace(ctx context.Context, arg string, w io.Writer) error {
	var j traceJob
	if err := json.Unmarshal([]byte(arg), &j); err != nil {
		return fmt.Errorf("decode what to trace: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt what is traced: %w", err)
	}
	home := newPlace()
	defer home.close()
	r := strace(ctx, home, j)
	if err := errors.Join(endOrphans(), json.NewEncoder(w).Encode(r)); err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	return nil
}
