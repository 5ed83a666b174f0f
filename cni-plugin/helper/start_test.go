// SPDX-License-Identifier: Apache-2.0

package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newStart says how to start the test binary as a helper that does what mode says.
func newStart(t *testing.T, mode string) Start {
	t.Helper()
	dir := t.TempDir()
	lock, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := Start{
		Program: program, Args: []string{mode}, NetNS: "/proc/self/ns/net", Lock: lock,
		PidFile: filepath.Join(dir, "pid"), API: filepath.Join(dir, "api"), Log: filepath.Join(dir, "log"),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // by force, if it is still there
		if r, err := Find(s.PidFile); err == nil && r != nil {
			_ = r.Stop(ctx)
			r.Close()
		}
	})
	return s
}

// TestLife starts, finds and stops a helper, politely or not, by what it lets itself be
// told.
func TestLife(t *testing.T) {
	for _, mode := range []string{modeReady, modeStays} {
		t.Run(mode, func(t *testing.T) {
			s := newStart(t, mode)
			pid := 0
			s.Started = func(_ context.Context, p int) error { pid = p; return nil }
			if err := s.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			r, err := Find(s.PidFile)
			if err != nil || r == nil || r.PID != pid {
				t.Fatalf("Find: %+v, %v, want process %d", r, err, pid)
			}
			defer r.Close()
			if !Runs(s.PidFile) {
				t.Error("it does not run")
			}
			ctx := t.Context()
			if mode == modeStays {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				cancel()
			}
			if err := r.Stop(ctx); err != nil {
				t.Errorf("Stop: %v", err)
			}
			if err := r.Stop(ctx); err != nil {
				t.Errorf("Stop again: %v", err)
			}
			if again, err := Find(s.PidFile); again != nil || err != nil || Runs(s.PidFile) {
				t.Errorf("Find of one that was stopped: %v, %v", again, err)
			}
			reap(t, pid)
		})
	}
}

// reap waits for a child that Start has left to init, which in a test we are.
func reap(t *testing.T, pid int) {
	t.Helper()
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		t.Errorf("wait for process %d: %v", pid, err)
	}
}

// TestFailures has helpers that do not get ready: none is left, nor are its files.
func TestFailures(t *testing.T) {
	for _, tt := range []struct{ mode, reason string }{
		{modeFails, "no such luck"},
		{modeSilent, "it said nothing"},
		{modeNever, ""},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			s := newStart(t, tt.mode)
			// The reason of the failure is the helper's, whatever else has failed.
			s.Started = func(context.Context, int) error { return errors.New("no scope") }
			ctx := t.Context()
			if tt.mode == modeNever {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, 100*time.Millisecond, errors.New("patience is over"))
				defer cancel()
			}
			err := s.Run(ctx)
			var failed *Failed
			switch {
			case tt.mode == modeNever:
				if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "patience is over") {
					t.Errorf("error %v, want ErrNotReady and the cause", err)
				}
			case !errors.As(err, &failed) || !strings.Contains(failed.Reason, tt.reason) || strings.Contains(failed.Reason, "slipway: "):
				t.Errorf("error %v, want %q", err, tt.reason)
			}
			if r, err := Find(s.PidFile); r != nil || err != nil {
				t.Errorf("Find: %v, %v, want none", r, err)
			}
			if _, err := os.Lstat(s.PidFile); !os.IsNotExist(err) {
				t.Errorf("the pidfile: %v, want none", err)
			}
		})
	}
}

// TestNoProgram cannot start anything.
func TestNoProgram(t *testing.T) {
	s := newStart(t, modeReady)
	s.Program = filepath.Join(t.TempDir(), "none")
	if err := s.Run(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that it does not exist", err)
	}
	s = newStart(t, modeReady)
	if err := os.Symlink("/dev/null", s.Log); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "log") {
		t.Errorf("a link in the log's place: error %v", err)
	}
}

// TestStarted writes to the log what went wrong beside, of a helper that is up.
func TestStarted(t *testing.T) {
	s := newStart(t, modeReady)
	pid := 0
	s.Started = func(_ context.Context, p int) error { pid = p; return errors.New("no scope for it") }
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := LogTail(s.Log); !strings.HasSuffix(text, "no scope for it") {
		t.Errorf("the log says %q", text)
	}
	s.stopElsewhere()
	reap(t, pid)
}

// TestInheritance looks at what a helper has of its starter: nothing that keeps a
// runtime waiting, or that a service manager would listen to.
func TestInheritance(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("CNI_COMMAND", "ADD")
	t.Setenv("LANG", "C")
	t.Setenv("TZ", "UTC")
	s := newStart(t, modeReports)
	pid := 0
	s.Started = func(_ context.Context, p int) error { pid = p; return nil }
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := LogTail(s.Log)
	for _, want := range []string{
		fmt.Sprintf("args slipway attach --ready-fd 3 --pidfile %s --api %s %s -- /proc/self/ns/net", s.PidFile, s.API, modeReports),
		"env PATH=" + usualPath + " LANG=C TZ=UTC", "dir /\n", "session true\n", "inherited 0 1 2 3\n",
	} {
		if !strings.Contains(text+"\n", want) {
			t.Errorf("the helper says\n%s\nwant %s", text, want)
		}
	}
	if strings.Contains(text, "CNI_") || strings.Contains(text, "NOTIFY_SOCKET") {
		t.Errorf("the helper has variables of its starter: %s", text)
	}
	s.stopElsewhere()
	reap(t, pid)
}

// TestFindNobody does not take a number in a file for a helper.
func TestFindNobody(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"ours": fmt.Sprintln(os.Getpid()), "nonsense": "-1\n", "empty": "", "gone": "999999999\n"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Find(path); r != nil || err != nil || Runs(path) {
			t.Errorf("%s: %v, %v, want none", name, r, err)
		}
	}
	if r, err := Find(filepath.Join(dir, "none")); r != nil || err != nil {
		t.Errorf("no file: %v, %v, want none", r, err)
	}
	if err := Remove(filepath.Join(dir, "ours"), filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
	if err := Remove(dir); err == nil { // it is not empty
		t.Error("a directory with files was removed")
	}
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Program(path); got != path || err != nil {
		t.Errorf("the configured one: %s, %v", got, err)
	}
	for _, bad := range []string{plain, filepath.Join(dir, "none")} {
		if _, err := Program(bad); err == nil || !strings.Contains(err.Error(), "helperPath "+bad) {
			t.Errorf("%s: error %v, want one that names it", bad, err)
		}
	}
	t.Setenv("PATH", "relative:"+dir)
	if got, err := Program(""); got != path || err != nil {
		t.Errorf("that in PATH: %s, %v, want %s", got, err, path)
	}
}

func TestLogTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := LogTail(path); got != "" {
		t.Errorf("no log: %q", got)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"empty":     {"", ""},
		"few lines": {"a\nb\n", "a\nb"},
		"many":      {strings.Repeat("old\n", 5000) + "1\n2\n3\n4\n5\n\n", "1\n2\n3\n4\n5"},
		"one long":  {strings.Repeat("x", 2*maxLog), strings.Repeat("x", maxLog)},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := LogTail(path); got != tt.want {
			t.Errorf("%s: %d bytes, %.40q, want %.40q", name, len(got), got, tt.want)
		}
	}
}
