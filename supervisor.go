// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/slipway-net/slipway/launcher/logs"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/supervise"
)

// Names in the directory of a detached container's logs.
const (
	supervisorLog = "supervisor.log"
	crashFile     = "supervisor.crash"
)

// supervisorLogSize is the size in bytes of a file of the supervisor's log.
const supervisorLogSize = 1 << 20

// superviseDetached is the main function of the supervisor of a detached container:
// of a new one, or, if the first word is an id, of one that is started again. What
// follows are the words behind "run".
func superviseDetached(args []string) int {
	caller, args := supervise.NewCaller(args)
	log := &lateLog{}
	defer log.close()
	r := newRunner(args[1:])
	if args[0] != newContainer {
		r.again = args[0]
	}
	id := ""
	r.began = func(h *state.Held) error {
		id = h.Record().ID
		return log.open(h)
	}
	r.started = func(state.Record) { caller.Tell(supervise.Start{ID: id}) }
	err := r.fs.Parse(r.args)
	code := exitRun
	if err != nil {
		err = fmt.Errorf("%w: %w", errUsage, err)
	} else if err = r.giveDetached(caller.Files()); err == nil {
		code, err = r.run(log)
	}
	if err != nil {
		complain(log, err)
		code = exitCode(code, err)
		caller.Tell(supervise.Start{ID: id, Code: code, Error: err.Error()})
	}
	return code
}

// exitCode is the exit code that goes with an error of run.
func exitCode(code int, err error) int {
	if isUsage(err) {
		return exitUsage
	}
	return code
}

// detach starts a supervisor for the words args of a run, and prints the container's
// id when its command runs. which is newContainer, or the id of a container that is
// started again, in the place and the environment of its invocation. fds are for the
// command.
func detach(which string, args []string, place state.Invocation, fds []int, stdout io.Writer) (int, error) {
	s, err := supervise.Detach(append([]string{which}, args...), place.Dir, place.Env, fds)
	if err != nil {
		return exitRun, err
	}
	if s.Error != "" {
		return s.Code, toldError(s.Error)
	}
	fmt.Fprintln(stdout, s.ID)
	return exitOK, nil
}

// A toldError is one that a supervisor told of.
type toldError string

// Error returns the text.
func (e toldError) Error() string { return string(e) }

// A lateLog keeps what is written to it until it knows the file it belongs in. It
// is safe for concurrent use.
type lateLog struct {
	mu     sync.Mutex
	early  bytes.Buffer
	w      *logs.Writer
	closed bool
}

// maxEarly bounds what is kept in bytes.
const maxEarly = 64 << 10

// Write implements io.Writer; it never fails.
func (l *lateLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
	case l.w != nil:
		l.w.Write(logs.Stderr, b)
	case l.early.Len()+len(b) <= maxEarly:
		l.early.Write(b)
	}
	return len(b), nil
}

// open begins the file in the container's data directory, and has the Go runtime
// say there what it says of a crash.
func (l *lateLog) open(h *state.Held) error {
	w, err := logs.NewWriter(filepath.Join(h.LogDir(), supervisorLog), supervisorLogSize)
	if err != nil {
		return err
	}
	crash, err := os.Create(filepath.Join(h.LogDir(), crashFile))
	if err == nil {
		err = debug.SetCrashOutput(crash, debug.CrashOptions{})
		crash.Close()
	}
	if err != nil {
		w.Close()
		return fmt.Errorf("prepare for a crash of the supervisor: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.w = w
	if l.early.Len() > 0 {
		w.Write(logs.Stderr, l.early.Bytes())
	}
	return nil
}

func (l *lateLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.w != nil {
		l.w.Close()
	}
}

// notifyReady tells a service manager that the container runs (sd_notify(3)). It
// is not told by the command itself, which does not have the variable.
func notifyReady(getenv func(string) string) error {
	addr := getenv("NOTIFY_SOCKET")
	if addr == "" {
		return nil
	}
	if !strings.HasPrefix(addr, "/") && !strings.HasPrefix(addr, "@") {
		return fmt.Errorf("tell the service manager: NOTIFY_SOCKET %q is not the address of a Unix socket", addr)
	}
	return sendDatagram(addr, "READY=1\n")
}
