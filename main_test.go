// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// binaryVar names the built program to the stages of the tests; one that is set
// already is tested as it is.
const binaryVar = "SLIPWAY_TEST_BINARY"

var update = flag.Bool("update", false, "write the golden files in testdata")

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

// testMain builds the program once, for all tests, as it is released.
func testMain(m *testing.M) int {
	if os.Getenv(listenedVar) != "" {
		return serveListened()
	}
	flag.Parse()
	if os.Getenv(binaryVar) != "" || testing.Short() {
		return attachtest.Main(m)
	}
	dir, err := os.MkdirTemp("", "slipway-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "slipway")
	if err := build(dir, path); err != nil {
		fmt.Fprintf(os.Stderr, "build slipway: %v\n", err)
		return 1
	}
	os.Setenv(binaryVar, path)
	return attachtest.Main(m)
}

// build builds the program at path as make does, with its init stage linked in. The
// tree may belong to another user, so that the stage is put into it by an overlay.
func build(dir, path string) error {
	stage, overlay := filepath.Join(dir, "initstage"), filepath.Join(dir, "overlay.json")
	tree, err := os.Getwd()
	if err != nil {
		return err
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(tree, "launcher/stagefile/initstage"): stage}})
	if err == nil {
		err = os.WriteFile(overlay, replace, 0o644)
	}
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"build", "-o", stage, "./launcher/initstage"},
		{"build", "-tags", "slipway_stage", "-overlay", overlay, "-o", path, "."},
	} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	return nil
}

// binary returns the path of the program.
func binary(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the built program: not with -short")
	}
	return os.Getenv(binaryVar)
}

// A finished command.
type result struct {
	code           int
	stdout, stderr string
}

// slipway runs the program to its end.
func slipway(t testing.TB, args ...string) result {
	t.Helper()
	return finish(t, exec.Command(binary(t), args...))
}

func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(attachtest.Patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	kill.Stop()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// A helper is a running `slipway attach`.
type helper struct {
	cmd    *exec.Cmd
	stderr *lines
	ended  chan struct{}
}

// attachTo starts `slipway attach` and waits until the network is up. The test's
// end ends it.
func attachTo(t testing.TB, c *attachtest.Place, flags ...string) *helper {
	t.Helper()
	return attachWith(t, c, nil, flags...)
}

// attachWith is attachTo with open files for the program, the first of which is
// descriptor 4.
func attachWith(t testing.TB, c *attachtest.Place, files []*os.File, flags ...string) *helper {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	args := append(append([]string{"attach", "--ready-fd", "3"}, flags...), strconv.Itoa(c.PID()))
	h := &helper{cmd: exec.Command(binary(t), args...), stderr: newLines(), ended: make(chan struct{})}
	h.cmd.ExtraFiles = append([]*os.File{w}, files...)
	h.cmd.Stderr = h.stderr
	err = h.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(h.ended)
		_ = h.cmd.Wait() // its state tells
	}()
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		<-h.ended
		if t.Failed() {
			t.Logf("slipway attach wrote:\n%s", h.stderr.String())
		}
	})
	// It is ready when it says so, and closes the descriptor after that.
	if said, err := io.ReadAll(r); err != nil || string(said) != "1" {
		<-h.ended
		t.Fatalf("the ready descriptor gave %q, error %v, want %q", said, err, "1")
	}
	return h
}

// signal sends a signal.
func (h *helper) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// exits waits for the end and compares the exit code.
func (h *helper) exits(t testing.TB, want int) {
	t.Helper()
	select {
	case <-h.ended:
	case <-time.After(attachtest.Patience):
		t.Fatal("slipway attach did not end")
	}
	if got := h.cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("slipway attach ended with %v, want exit code %d", h.cmd.ProcessState, want)
	}
}

// lines collects what a program writes, and lets a test wait for a line.
type lines struct {
	mu    sync.Mutex
	all   bytes.Buffer
	wrote chan struct{} // closed at the next write
}

func newLines() *lines { return &lines{wrote: make(chan struct{})} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.wrote)
	l.wrote = make(chan struct{})
	return l.all.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// wait waits for a line that has all of the words.
func (l *lines) wait(t testing.TB, words ...string) string {
	t.Helper()
	late := time.After(attachtest.Patience)
	for {
		l.mu.Lock()
		text, wrote := l.all.String(), l.wrote
		l.mu.Unlock()
		for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
			if hasAll(s.Text(), words) {
				return s.Text()
			}
		}
		select {
		case <-wrote:
		case <-late:
			t.Fatalf("no line with %q in:\n%s", words, text)
		}
	}
}

func hasAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}

// links returns the names of the container's interfaces.
func links(t testing.TB, c *attachtest.Place) string {
	t.Helper()
	return c.Exec(t, "ls", "/proc/sys/net/ipv4/conf")
}

// processes returns the ids of all processes that run the program. It is their command
// line that tells: what else does, a confined one keeps to itself.
func processes(t testing.TB) []string {
	t.Helper()
	return processesOf(t, binary(t))
}

// processesOf is processes for those that run any of the programs.
func processesOf(t testing.TB, programs ...string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, file := range files {
		// What cannot be read has ended.
		b, err := os.ReadFile(file)
		if name, _, _ := strings.Cut(string(b), "\x00"); err == nil && slices.Contains(programs, name) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
