// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// A subject is a slirp4netns: the real one, or ours.
type subject struct {
	ours bool
	path string
}

// A scenario is something that a user of slirp4netns sees. Both must show the same,
// unless a difference is intended: then docs/compat.md has a line with those words.
type scenario struct {
	name    string
	observe func(t *testing.T, s subject) string
	// intended is what docs/compat.md says of the difference; theirs and ours are
	// what is seen then.
	intended, theirs, ours string
}

// TestSlirp4netns runs the same scenarios with the real slirp4netns and with ours.
func TestSlirp4netns(t *testing.T) {
	attachtest.NeedTools(t, "slirp4netns", "ping", "ip", "mkfifo")
	attachtest.Open(t)
	compare(t, slices.Concat(usageScenarios(), lifeScenarios(), netScenarios(), targetScenarios(), apiScenarios()))
}

// compare runs the scenarios with the real slirp4netns and with ours.
func compare(t *testing.T, scenarios []scenario) {
	t.Helper()
	theirs, err := exec.LookPath("slirp4netns")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/compat.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := strings.Join(strings.Fields(string(page)), " ")
	real, ours := subject{false, theirs}, subject{true, oursAs(t, "slirp4netns")}
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			// Each in a test of its own, whose end takes away what it made.
			var a, b string
			t.Run("real", func(t *testing.T) { a = sc.observe(t, real) })
			t.Run("ours", func(t *testing.T) { b = sc.observe(t, ours) })
			switch {
			case sc.intended == "":
				if a != b || a == "" {
					t.Errorf("slirp4netns:\n%s\nours:\n%s", a, b)
				}
			case a != sc.theirs || b != sc.ours:
				t.Errorf("slirp4netns:\n%s\nwant:\n%s\nours:\n%s\nwant:\n%s", a, sc.theirs, b, sc.ours)
			case !strings.Contains(documented, sc.intended):
				t.Errorf("docs/compat.md does not say: %s", sc.intended)
			}
		})
	}
	if left := processes(t); len(left) > 0 {
		t.Errorf("processes are left behind: %q", left)
	}
}

// oursAs returns the path of a link by that name to the program.
func oursAs(t *testing.T, name string) string {
	t.Helper()
	return linkTo(t, binary(t), name)
}

// linkTo returns the path of a link by that name to a program.
func linkTo(t *testing.T, program, name string) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// A slirp is a running subject.
type slirp struct {
	cmd            *exec.Cmd
	stdout, stderr *lines
	ended          chan struct{}
}

// start starts the subject on a container, and waits until it says that it is ready
// on descriptor 3. Among the arguments PID stands for the container's process; files
// are descriptors from 4 on. The test's end ends it.
func (s subject) start(t *testing.T, c *attachtest.Place, files []*os.File, args ...string) *slirp {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := s.launch(t, c, append([]*os.File{w}, files...), append([]string{"-r", "3"}, args...)...)
	w.Close()
	// The real one keeps a copy open no longer than the byte takes.
	said, err := io.ReadAll(r)
	if err != nil || string(said) != "1" {
		<-h.ended
		t.Fatalf("%s %q: the ready descriptor gave %q, error %v", s.path, args, said, err)
	}
	return h
}

// launch is start for what never gets ready: files are descriptors from 3 on.
func (s subject) launch(t *testing.T, c *attachtest.Place, files []*os.File, args ...string) *slirp {
	t.Helper()
	h := &slirp{stdout: newLines(), stderr: newLines(), ended: make(chan struct{})}
	h.cmd = exec.Command(s.path, withPID(c, args)...)
	h.cmd.ExtraFiles, h.cmd.Stdout, h.cmd.Stderr = files, h.stdout, h.stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(h.ended)
		_ = h.cmd.Wait() // its state tells
	}()
	t.Cleanup(func() {
		h.kill()
		if t.Failed() {
			t.Logf("%s %q wrote:\n%s%s", s.path, args, h.stdout, h.stderr)
		}
	})
	return h
}

func withPID(c *attachtest.Place, args []string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		if c != nil {
			out[i] = strings.ReplaceAll(a, "PID", strconv.Itoa(c.PID()))
		}
	}
	return out
}

func (h *slirp) kill() {
	_ = h.cmd.Process.Kill()
	<-h.ended
}

// end sends a signal, if not 0, and returns how it ended.
func (h *slirp) end(t *testing.T, sig syscall.Signal) string {
	t.Helper()
	if sig != 0 {
		if err := h.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-h.ended:
		return h.cmd.ProcessState.String()
	case <-time.After(attachtest.Patience):
		t.Fatalf("%q did not end", h.cmd.Args)
		return ""
	}
}

// run runs the subject to its end, with a container's process for PID if there is one.
func (s subject) run(t *testing.T, c *attachtest.Place, args ...string) result {
	t.Helper()
	return finish(t, exec.Command(s.path, withPID(c, args)...))
}

// exists tells whether there is a file.
func exists(path string) string {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return "gone"
	}
	return "there"
}
