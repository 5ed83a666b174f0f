// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
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

// endPatience is how long the end of a helper that closed its ready descriptor is
// waited for, so that the report can say how it ended.
const endPatience = 200 * time.Millisecond

// A helper is a running subject.
type helper struct {
	pid     int
	argv    []string
	startup time.Duration // from before the fork until it said that it is ready
	output  *outputPipe   // what it printed
	daemon  bool          // in the background, adopted by us
	cmd     *exec.Cmd
	exited  chan struct{} // closed when cmd was waited for
}

// startHelper starts the subject in the place, trying its command lines in turn,
// and waits until it is ready. Close ends it.
func startHelper(ctx context.Context, p *place, s Subject, j job) (*helper, error) {
	dir, err := os.MkdirTemp("", "slipway-bench-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer os.RemoveAll(dir)
	j.PIDFile = filepath.Join(dir, "pid")
	ctx, cancel := context.WithTimeoutCause(ctx, j.StartLimit, fmt.Errorf("no sign of it within %s", j.StartLimit))
	defer cancel()
	var errs []error
	for _, argv := range s.commands(j) {
		h, err := launch(ctx, p, argv, tools()[s.Tool].ready, j.PIDFile)
		if err == nil {
			return h, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("start %s: %w", s.Name, errors.Join(errs...))
}

// cpu returns the CPU time in seconds that the helper has used.
func (h *helper) cpu() (float64, error) { return cpuSeconds(h.pid) }

// died returns an error with the helper's last words if it no longer runs.
func (h *helper) died() error {
	if err := unix.Kill(h.pid, 0); err == nil && !h.gone() {
		return nil
	}
	return fmt.Errorf("the helper died: %s: %s", h.ended(), h.output.said())
}

// close kills the helper and waits until it is gone. It is idempotent.
func (h *helper) close() {
	h.output.close()
	if h.daemon {
		unix.Kill(h.pid, unix.SIGKILL)
		unix.Wait4(h.pid, nil, 0, nil)
		h.daemon = false
	}
	h.cmd.Process.Kill()
	<-h.exited
}

// gone reports whether the foreground process ended.
func (h *helper) gone() bool {
	if h.daemon {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid))
		return err != nil || bytes.Contains(b, []byte(") Z "))
	}
	select {
	case <-h.exited:
		return true
	default:
		return false
	}
}

// ended says how a helper that is gone ended. One in the background is waited for.
func (h *helper) ended() string {
	if h.daemon {
		var ws unix.WaitStatus
		if _, err := unix.Wait4(h.pid, &ws, unix.WNOHANG, nil); err != nil {
			return "in the background"
		}
		h.daemon = false
		return describeEnd(ws)
	}
	<-h.exited
	return h.cmd.ProcessState.String()
}

func launch(ctx context.Context, p *place, argv []string, kind readyKind, pidFile string) (*helper, error) {
	output, out, err := newOutputPipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	ready, signal, err := os.Pipe()
	if err != nil {
		output.close()
		return nil, err
	}
	defer ready.Close()
	h := &helper{argv: argv, output: output, exited: make(chan struct{}), cmd: exec.Command(argv[0], argv[1:]...)}
	h.cmd.Dir = "/"
	h.cmd.Stdout, h.cmd.Stderr = out, out
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if kind == readyByFD {
		h.cmd.ExtraFiles = []*os.File{signal}
	}
	start := time.Now()
	err = p.start(h.cmd)
	signal.Close()
	if err != nil {
		output.close()
		return nil, err
	}
	out.Close() // so that the end of the helper is that of the pipe
	go output.collect()
	h.pid = h.cmd.Process.Pid
	go func() {
		defer close(h.exited)
		h.cmd.Wait()
	}()
	if err := h.awaitReady(ctx, kind, ready, pidFile); err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(concat([]string{filepath.Base(argv[0])}, argv[1:]), " "), err)
		if h.gone() {
			err = fmt.Errorf("%w: %s", err, h.ended())
		}
		err = fmt.Errorf("%w: %s", err, h.output.said())
		h.close()
		return nil, err
	}
	h.startup = time.Since(start)
	return h, nil
}

func (h *helper) awaitReady(ctx context.Context, kind readyKind, ready *os.File, pidFile string) error {
	if kind == readyByExit {
		select {
		case <-h.exited:
		case <-ctx.Done():
			return fmt.Errorf("did not go into the background: %w", context.Cause(ctx))
		}
		if !h.cmd.ProcessState.Success() {
			return errors.New("ended before it was ready")
		}
		return h.adopt(pidFile)
	}
	stop := context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Now()) })
	defer stop()
	read := make(chan struct{})
	defer close(read)
	go func() {
		select {
		case <-h.exited: // a child of it may hold the descriptor
			ready.SetReadDeadline(time.Now().Add(endPatience))
		case <-read:
		}
	}()
	_, err := ready.Read(make([]byte, 1))
	switch {
	case err == nil:
		return nil
	case h.gone():
		return errors.New("ended before it was ready")
	case errors.Is(err, io.EOF):
		select {
		case <-h.exited:
			return errors.New("ended before it was ready")
		case <-time.After(endPatience):
			return errors.New("closed its ready descriptor before it was ready")
		}
	case ctx.Err() != nil:
		return fmt.Errorf("not ready: %w", context.Cause(ctx))
	default:
		return fmt.Errorf("not ready: %w", err)
	}
}

// adopt learns the process id of a helper that went into the background.
func (h *helper) adopt(pidFile string) error {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return fmt.Errorf("find the process in the background: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("find the process in the background: %w", err)
	}
	// It will be killed: whatever else the file says, this must be a process of ours.
	if parentOf(pid) != os.Getpid() {
		return fmt.Errorf("find the process in the background: %d is none that it left there", pid)
	}
	h.pid, h.daemon = pid, true
	return nil
}
