// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
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

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/launcher/supervise"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// A user is one with containers of its own: directories that no other test uses.
type user struct {
	dir string
	run string // XDG_RUNTIME_DIR
	env []string
}

// newUser returns a user whose containers end with the test, which fails if
// anything of them is left.
func newUser(t testing.TB) *user {
	t.Helper()
	binary(t)
	dir := t.TempDir()
	// Longer than the address of a socket may be.
	run := filepath.Join(dir, strings.Repeat("run", 30))
	u := &user{dir: dir, run: run, env: []string{"HOME=" + dir + "/home", "XDG_RUNTIME_DIR=" + run, "PATH=" + os.Getenv("PATH")}}
	for _, d := range []string{filepath.Join(dir, "home"), run} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		u.slipway(t, "rm", "-fa")
		u.clean(t)
	})
	return u
}

// clean fails the test unless no file and no process of a container is left.
func (u *user) clean(t testing.TB) {
	t.Helper()
	for _, glob := range []string{u.run + "/slipway/*/*", u.run + "/slipway/*/.*", u.dir + "/home/.local/share/slipway/containers/*"} {
		left, err := filepath.Glob(glob)
		if err != nil || len(left) > 0 {
			t.Errorf("files are left behind: %v %v", left, err)
		}
	}
	attachtest.Eventually(t, "no process is left", func() bool { return len(supervisors(t, u)) == 0 })
}

// supervisors lists the processes that have this user's directories in their
// environment.
func supervisors(t testing.TB, u *user) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && !slices.Contains(strings.Split(string(b), "\x00"), u.env[1]) {
			continue
		}
		// One that is confined keeps its environment to itself; the tests have no other.
		if err != nil && !slices.Contains(processesOf(t, binary(t), supervise.DetachedArg), strings.Split(f, "/")[2]) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(f, "/")[2]); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// command is the program with the words, as the user runs it.
func (u *user) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Env, cmd.Dir = u.env, u.dir
	return cmd
}

func (u *user) slipway(t testing.TB, args ...string) result {
	t.Helper()
	return finish(t, u.command(t, args...))
}

// must runs the program, which must succeed, and returns what it printed without
// the last newline.
func (u *user) must(t testing.TB, args ...string) string {
	t.Helper()
	got := u.slipway(t, args...)
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("slipway %q: %+v", args, got)
	}
	return strings.TrimSuffix(got.stdout, "\n")
}

// refuse runs the program, which must fail with the code and one line that has
// want in it.
func (u *user) refuse(t testing.TB, code int, want string, args ...string) {
	t.Helper()
	got := u.slipway(t, args...)
	line, rest, _ := strings.Cut(got.stderr, "\n")
	if got.code != code || rest != "" || !strings.HasPrefix(line, "slipway: ") || !strings.Contains(line, want) {
		t.Errorf("slipway %q: %+v, want code %d and one line with %q", args, got, code, want)
	}
}

// An inspected is what the tests look at of `slipway inspect` and `ps --json`.
type inspected struct {
	ID, Name, Status string
	Dir              string
	Data             string `json:"data_dir"`
	Exit             *struct {
		Code  int
		Error string
	}
	Supervisor, Init struct{ PID int }
}

func (u *user) inspect(t testing.TB, name string) inspected {
	t.Helper()
	var all []inspected
	if err := json.Unmarshal([]byte(u.must(t, "inspect", name)), &all); err != nil || len(all) != 1 {
		t.Fatalf("inspect: %v, %v", all, err)
	}
	return all[0]
}

// TestLife takes a detached container from its start to its removal.
func TestLife(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	id := u.must(t, "run", "-d", "--name", "web", "--label", "tier=front", "--cidfile", "cid", "--pidfile", "pid", "--",
		"sh", "-c", `trap 'echo bye; exit 3' TERM; echo out; echo err >&2; while :; do sleep 0.05; done`)
	if got := u.must(t, "ps", "-q", "--no-trunc"); got != id {
		t.Errorf("ps lists %q, want %s", got, id)
	}
	i := u.inspect(t, "web")
	if i.ID != id || i.Status != "running" || i.Init.PID == 0 {
		t.Errorf("inspect: %+v", i)
	}
	if b, err := os.ReadFile(filepath.Join(u.dir, "cid")); err != nil || string(b) != id {
		t.Errorf("--cidfile: %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(u.dir, "pid")); err != nil || string(b) != fmt.Sprintln(i.Init.PID) {
		t.Errorf("--pidfile: %q, %v, want %d", b, err, i.Init.PID)
	}
	for filter, want := range map[string]string{
		"name=we": id, "name=other": "", "label=tier": id, "label=tier=front": id, "label=tier=back": "",
		"status=running": id, "status=exited": "", "id=" + id[:5]: id, "image=x": "",
	} {
		if got := u.must(t, "ps", "-q", "--no-trunc", "--filter", filter); got != want {
			t.Errorf("ps --filter %s: %q, want %q", filter, got, want)
		}
	}
	attachtest.Eventually(t, "both lines are in the log", func() bool {
		got := u.slipway(t, "logs", id[:6])
		return got == result{0, "out\n", "err\n"}
	})
	follow := u.command(t, "logs", "-f", "web")
	followed := make(chan result)
	go func() { followed <- finish(t, follow) }()
	u.refuse(t, 125, "is taken", "run", "-d", "--name", "web", "--", "true")
	u.refuse(t, 125, "is taken", "run", "--name", "web", "--", "true")
	u.refuse(t, 1, "stop it before", "rm", "web")
	if got := u.must(t, "stop", "web"); got != "web" {
		t.Errorf("stop prints %q", got)
	}
	if got := <-followed; (got != result{0, "out\nbye\n", "err\n"}) {
		t.Errorf("logs -f: %+v", got)
	}
	if got := u.must(t, "wait", "web"); got != "3" {
		t.Errorf("wait prints %q, want 3", got)
	}
	if got := u.must(t, "ps", "-q"); got != "" {
		t.Errorf("ps lists %q after the end", got)
	}
	if got := u.must(t, "ps", "-a"); !strings.Contains(got, "exited (3)") {
		t.Errorf("ps -a: %s", got)
	}
	if got := u.must(t, "logs", "--tail", "1", "web"); got != "bye" {
		t.Errorf("logs --tail 1: %q", got)
	}
	u.must(t, "stop", "web")
	u.refuse(t, 1, "is exited", "kill", "web")
	u.must(t, "rm", "web")
	u.refuse(t, 1, "no such container", "rm", "web")
	u.must(t, "rm", "-f", "web")
}

// TestForeground has a container of the foreground be one like the others.
func TestForeground(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	ended := make(chan result)
	cmd := u.command(t, "run", "--name", "fore", "--", "sh", "-c", "echo up; exec sleep 1000")
	go func() { ended <- finish(t, cmd) }()
	attachtest.Eventually(t, "the container runs", func() bool {
		return u.slipway(t, "ps", "-q", "-f", "name=fore").stdout != "" && u.inspect(t, "fore").Status == "running"
	})
	u.refuse(t, 1, "in the foreground", "logs", "fore")
	waited := make(chan result)
	waiting := u.command(t, "wait", "fore")
	go func() { waited <- finish(t, waiting) }()
	attachtest.Eventually(t, "somebody waits", func() bool { return waiting.Process != nil })
	u.must(t, "kill", "-s", "TERM", "fore")
	if got := <-ended; (got != result{143, "up\n", ""}) {
		t.Errorf("run: %+v, want code 143", got)
	}
	// If the end was faster than the waiting the container was gone.
	if got := <-waited; got.stdout != "143\n" && !strings.Contains(got.stderr, "no such container") {
		t.Errorf("wait: %+v, want 143", got)
	}
	u.clean(t)
}

// TestDetachedFailure has what fails before the command runs told where the user
// looks.
func TestDetachedFailure(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.refuse(t, 127, "no-such-command", "run", "-d", "--rm", "--", "no-such-command")
	u.refuse(t, 126, "not executable", "run", "-d", "--rm", "--", "/etc/passwd")
	u.refuse(t, 2, "run what?", "run", "-d")
	u.refuse(t, 2, "--name", "run", "-d", "--name", "../x", "--", "true")
	u.refuse(t, 2, "systemd", "run", "-d", "--restart", "always", "--", "true")
	u.refuse(t, 125, "192.0.2.1", "run", "-d", "--rm", "-p", "192.0.2.1:0:80", "--", "true")
	if err := os.WriteFile(filepath.Join(u.dir, "cid"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u.refuse(t, 125, "is there already", "run", "--cidfile", "cid", "--", "true")
	u.clean(t)
	u.refuse(t, 127, "no-such-command", "run", "-d", "--name", "kept", "--", "no-such-command")
	if i := u.inspect(t, "kept"); i.Status != "exited" || i.Exit.Code != 127 || !strings.Contains(i.Exit.Error, "no-such-command") {
		t.Errorf("inspect: %+v", i)
	}
	if got := u.slipway(t, "logs", "--supervisor", "kept"); !strings.Contains(got.stderr, "no-such-command") {
		t.Errorf("the supervisor's log: %+v", got)
	}
}

// TestKilled kills one process of a container after the other.
func TestKilled(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	for _, tt := range []struct {
		name string
		pid  func(inspected) int
		code int
		why  string
	}{
		{"supervisor", func(i inspected) int { return i.Supervisor.PID }, 137, "killed"},
		{"init", func(i inspected) int { return i.Init.PID }, 137, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u.must(t, "run", "-d", "--name", "kept", "--", "sleep", "1000")
			u.must(t, "run", "-d", "--rm", "--name", "thrown", "--", "sleep", "1000")
			for _, name := range []string{"kept", "thrown"} {
				i := u.inspect(t, name)
				if err := syscall.Kill(tt.pid(i), syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				attachtest.Eventually(t, "pid 1 is gone", func() bool { return syscall.Kill(i.Init.PID, 0) != nil })
			}
			attachtest.Eventually(t, "one is left", func() bool { return strings.Count(u.must(t, "ps", "-aq"), "\n") == 0 })
			attachtest.Eventually(t, "it has ended", func() bool { return u.inspect(t, "kept").Status == "exited" })
			if i := u.inspect(t, "kept"); i.Exit.Code != tt.code || !strings.Contains(i.Exit.Error, tt.why) {
				t.Errorf("inspect: %+v", i)
			}
			if got := u.must(t, "wait", "kept"); got != strconv.Itoa(tt.code) {
				t.Errorf("wait: %s", got)
			}
			u.must(t, "rm", "kept")
			u.clean(t)
		})
	}
}

// TestForeignDirectory has others able to write where containers are written down, as in
// /tmp without XDG_RUNTIME_DIR: nothing may be written there, which could be through a
// link of theirs.
func TestForeignDirectory(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	dir := filepath.Join(u.run, "slipway")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	u.refuse(t, 125, "others may write to it", "run", "--net", "none", "--userns", "auto", "--", "true")
	u.refuse(t, 125, "others may write to it", "run", "--network", "lan", "--", "true")
	u.refuse(t, 1, "others may write to it", "ps")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("in the directory: %v %v", left, err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
}

// TestRaces has several do the same at once.
func TestRaces(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	const many = 6
	at := func(args ...string) []result {
		var work sync.WaitGroup
		got := make([]result, many)
		for i := range got {
			work.Go(func() { got[i] = u.slipway(t, args...) })
		}
		work.Wait()
		return got
	}
	count := func(got []result, code int) (n int) {
		for _, r := range got {
			if r.code == code {
				n++
			}
		}
		return n
	}
	if got := at("run", "-d", "--name", "one", "--", "sleep", "1000"); count(got, 0) != 1 || count(got, 125) != many-1 {
		t.Errorf("run: %+v, want one to succeed and the others to be refused", got)
	}
	if got := at("stop", "one"); count(got, 0) != many {
		t.Errorf("stop: %+v, want all to succeed", got)
	}
	if got := at("rm", "one"); count(got, 0) < 1 || count(got, 0)+count(got, 1) != many {
		t.Errorf("rm: %+v", got)
	}
	u.must(t, "run", "-d", "--name", "two", "--", "sleep", "1000")
	if got := at("rm", "-f", "two"); count(got, 0) != many {
		t.Errorf("rm -f: %+v, want all to succeed", got)
	}
	u.clean(t)
}

// TestRemoveWhileStarting removes containers at moments of their start.
func TestRemoveWhileStarting(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	for range 10 {
		ended := make(chan result)
		go func() { ended <- u.slipway(t, "run", "-d", "--name", "early", "--", "sleep", "1000") }()
		attachtest.Eventually(t, "it is there", func() bool { return u.slipway(t, "rm", "-f", "early").code == 0 })
		<-ended
		u.slipway(t, "rm", "-f", "early")
		u.clean(t)
	}
}

// TestNoisy writes a lot: the log stays bounded, and its end is there.
func TestNoisy(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	const size = 100 << 10
	u.must(t, "run", "-d", "--name", "noisy", "--log-size", strconv.Itoa(size), "--net", "none", "--", "seq", "1000000")
	if got := u.must(t, "wait", "noisy"); got != "0" {
		t.Errorf("wait: %s", got)
	}
	if got := u.must(t, "logs", "--tail", "2", "noisy"); got != "999999\n1000000" {
		t.Errorf("the log ends with %q", got)
	}
	files, err := filepath.Glob(filepath.Join(u.inspect(t, "noisy").Data, "logs", "log*"))
	if err != nil || len(files) != 2 {
		t.Errorf("files of the log: %v, %v", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > size {
			t.Errorf("%s: %v, %v", f, info.Size(), err)
		}
	}
}

// TestTimestamps prints each line's time.
func TestTimestamps(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.must(t, "run", "-d", "--name", "times", "--net", "none", "--", "sh", "-c", "printf a; printf b; echo c")
	u.must(t, "wait", "times")
	stamp, text, _ := strings.Cut(u.must(t, "logs", "-t", "times"), " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != "abc" {
		t.Errorf("logs -t: %q %q, %v", stamp, text, err)
	}
	for _, flag := range []string{"--since=" + stamp, "--since=1h"} {
		if diff := cmp.Diff("abc", u.must(t, "logs", flag, "times")); diff != "" {
			t.Errorf("%s:\n%s", flag, diff)
		}
	}
	if got := u.must(t, "logs", "--until=1h", "times"); got != "" {
		t.Errorf("--until: %q", got)
	}
}

// TestRealTimeSignal has a container end by the signal that those of systemd end by, as a
// service manager sends it: to the supervisor.
func TestRealTimeSignal(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	cmd := u.command(t, "run", "--net", "none", "--stop-signal", "SIGRTMIN+3", "--", "sh", "-c", "trap 'exit 5' 37; echo up; while :; do sleep 0.05; done")
	out := newLines()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.wait(t, "up")
	if err := cmd.Process.Signal(syscall.Signal(37)); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its state tells
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d, want 5: %s", code, out)
	}
}
