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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endPatience is how long the end of a helper that closed its ready descriptor is
// waited for, so that the report can say how it ended.
const endPatience = 200 * time.Millisecond

// stopPatience is how long a helper that made the container may take to end by
// itself, with the container, before it is killed.
const stopPatience = 2 * time.Second

// A helper is a running subject.
type helper struct {
	tool    tool
	job     job
	pid     int
	argv    []string
	startup time.Duration // from before the fork until it said that it is ready
	output  *outputPipe   // what it printed
	daemon  bool          // in the background, adopted by us
	cmd     *exec.Cmd
	exited  chan struct{} // closed when cmd was waited for
	// endpoint is the container's, where the helper started it; else nil.
	endpoint *remote
}

// startHelper starts the subject in the place, trying its command lines in turn,
// waits until it is ready and lets it publish the job's ports. The job's directory
// is made here. Close ends the helper.
func startHelper(ctx context.Context, p *place, s Subject, j job) (*helper, error) {
	dir, err := os.MkdirTemp("", "slipway-bench-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	j.Dir = dir
	ctx, cancel := context.WithTimeoutCause(ctx, j.StartLimit, fmt.Errorf("no sign of it within %s", j.StartLimit))
	defer cancel()
	h, err := tryCommands(ctx, p, s, j)
	if err == nil {
		if err = h.publish(ctx); err == nil {
			return h, nil
		}
		h.close()
	}
	return nil, fmt.Errorf("start %s: %w", s.Name, errors.Join(err, os.RemoveAll(dir)))
}

// tryCommands returns the first helper that gets ready.
func tryCommands(ctx context.Context, p *place, s Subject, j job) (*helper, error) {
	var errs []error
	for _, argv := range s.commands(j) {
		h, err := launch(ctx, p, tools()[s.Tool], argv, j)
		if err == nil {
			return h, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// lastMoments is how long a helper may take to end after what it carried has broken:
// its connections can be seen to end before it.
const lastMoments = 300 * time.Millisecond

// mayDie waits for a moment whether the helper ends, after a failure that its end
// would explain.
func (h *helper) mayDie() {
	select {
	case <-h.exited:
	case <-time.After(lastMoments):
	}
}

// died returns an error with the helper's last words if it no longer runs.
func (h *helper) died() error {
	if err := unix.Kill(h.pid, 0); err == nil && !h.gone() {
		return nil
	}
	return fmt.Errorf("the helper died: %s: %s", h.ended(), h.output.said())
}

// close ends the helper and waits until it is gone. It is idempotent.
func (h *helper) close() {
	h.output.close()
	if h.daemon {
		unix.Kill(h.pid, unix.SIGKILL)
		unix.Wait4(h.pid, nil, 0, nil)
		h.daemon = false
	}
	if h.endpoint != nil {
		// The endpoint ends with its input, the helper with the endpoint: it takes its
		// mounts and files down.
		h.endpoint.in.Close()
		select {
		case <-h.exited:
		case <-time.After(stopPatience):
		}
	}
	h.cmd.Process.Kill()
	<-h.exited
	if h.endpoint != nil {
		h.endpoint.close()
	}
	os.RemoveAll(h.job.Dir)
}

// command is the command line with programs by their name only: where they lie is
// nobody's business in results that are published.
func (h *helper) command() []string {
	all := slices.Clone(h.argv)
	all[0] = filepath.Base(all[0])
	for i, a := range all {
		if a == h.job.Program && a != "" {
			all[i] = filepath.Base(a)
		}
	}
	return all
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

// launch runs one command line. The job's directory, which it empties first, is the
// helper's from here on where there is no error.
func launch(ctx context.Context, p *place, t tool, argv []string, j job) (*helper, error) {
	if err := emptyDir(j.Dir); err != nil {
		return nil, err
	}
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
	h := &helper{tool: t, job: j, argv: argv, output: output, exited: make(chan struct{}), cmd: exec.Command(argv[0], argv[1:]...)}
	if err := h.prepare(signal, out); err != nil {
		signal.Close()
		output.close()
		return nil, err
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
	if h.endpoint != nil {
		go h.endpoint.read()
	}
	go func() {
		defer close(h.exited)
		h.cmd.Wait()
	}()
	err = h.awaitReady(ctx, ready)
	h.startup = time.Since(start)
	if err != nil {
		err = h.explain(err)
		h.abandon()
		return nil, err
	}
	return h, nil
}

// prepare sets up the command, with out for what it prints and signal as the
// descriptor that the helper writes to where it does.
func (h *helper) prepare(signal, out *os.File) error {
	h.cmd.Dir = "/"
	h.cmd.Stdout, h.cmd.Stderr = out, out
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	switch h.tool.ready {
	case readyByFD:
		h.cmd.ExtraFiles = []*os.File{signal}
	case readyByAnswer:
		path, err := writeIDTools(h.job)
		if err != nil {
			return err
		}
		h.cmd.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))
		h.cmd.Stdout = nil // the endpoint's
		h.endpoint, err = newRemote("container", h.cmd)
		return err
	}
	return nil
}

// publish asks for the job's ports where the command line did not.
func (h *helper) publish(ctx context.Context) error {
	if h.tool.publish == nil {
		return nil
	}
	for _, p := range h.job.Publish {
		if err := h.tool.publish(ctx, h.job, p); err != nil {
			return fmt.Errorf("publish %s: %w", p, err)
		}
	}
	return nil
}

// explain adds to err what a user needs to know.
func (h *helper) explain(err error) error {
	ended := ""
	if h.gone() {
		ended = h.ended() + ": "
	}
	said := h.output.said()
	if len(h.job.Publish) > 0 && h.tool.publishFlag != "" && strings.Contains(said, "unknown flag: "+h.tool.publishFlag) {
		return fmt.Errorf("this %s does not publish ports", filepath.Base(h.argv[0]))
	}
	return fmt.Errorf("%s: %w: %s%s", strings.Join(h.command(), " "), err, ended, said)
}

// abandon ends a helper that did not start; its directory stays for the next try.
func (h *helper) abandon() {
	h.job.Dir = ""
	h.close()
}

// emptyDir removes what is in the directory.
func emptyDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o700)
}

func (h *helper) awaitReady(ctx context.Context, ready *os.File) error {
	switch h.tool.ready {
	case readyByAnswer:
		return h.awaitAnswer(ctx)
	case readyByExit:
		select {
		case <-h.exited:
		case <-ctx.Done():
			return fmt.Errorf("did not go into the background: %w", context.Cause(ctx))
		}
		if !h.cmd.ProcessState.Success() {
			return errors.New("ended before it was ready")
		}
		return h.adopt(h.job.pidFile())
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

// awaitAnswer waits for the endpoint that the helper runs.
func (h *helper) awaitAnswer(ctx context.Context) error {
	err := h.endpoint.call(ctx, 0, "pid", nil, &h.endpoint.pid)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("not ready: %w", context.Cause(ctx))
	}
	select {
	case <-h.exited:
		return errors.New("ended before it was ready")
	case <-time.After(endPatience):
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
