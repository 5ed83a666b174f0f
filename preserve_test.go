// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// listenedVar makes this binary a service that is started by a socket.
const listenedVar = "SLIPWAY_TEST_LISTENED"

// serveListened answers one connection on each socket that a service manager has given
// this process, as sd_listen_fds(3) has it.
func serveListened() int {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		fmt.Fprintf(os.Stderr, "no sockets: LISTEN_FDS=%s LISTEN_PID=%s, and I am %d\n", os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"), os.Getpid())
		return 1
	}
	for i := range n {
		l, err := net.FileListener(os.NewFile(uintptr(3+i), "socket"))
		if err == nil {
			var c net.Conn
			if c, err = l.Accept(); err == nil {
				_, err = fmt.Fprintf(c, "%s %d", os.Getenv("LISTEN_FDNAMES"), i)
				c.Close()
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

// readAll connects to a service and returns what that says.
func readAll(t *testing.T, network, addr string) string {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// TestPreserve gives commands descriptors: of ours as pid 1 and below it, in containers
// that are there, and by other runtimes.
func TestPreserve(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	const script = "cat <&3; echo out >&4; ls /proc/self/fd | tr '\\n' ' '"
	u.must(t, "run", "-d", "--name", "box", "--net", "none", "--", "sleep", "1000")
	if err := os.Chmod(u.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	u.must(t, "run", "-d", "--name", "tight", "--net", "none", "--ulimit", "nofile=6:6", "--", "sleep", "1000")
	ways := map[string][]string{
		"pid 1":       {"run", "--net=none", "--init=false", "--preserve-fds=2", "--", "sh", "-c", script},
		"below pid 1": {"run", "--net=none", "--preserve-fds=2", "--", "sh", "-c", script},
		"joined":      {"run", "--net=container:box", "--preserve-fds=2", "--", "sh", "-c", script},
		"exec":        {"exec", "--preserve-fds", "2", "box", "sh", "-c", script},
	}
	for name, words := range ways {
		t.Run(name, func(t *testing.T) {
			preserve(t, u.command(t, words...), "0 1 2 3 4 5 ") // 5 is ls's own
		})
	}
	// There is room for these alone, and for the one that the command opens.
	tight := u.command(t, "exec", "--preserve-fds", "2", "tight", "stat", "-L", "-c", "%F", "/proc/self/fd/3", "/proc/self/fd/4")
	for range 2 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		tight.ExtraFiles = append(tight.ExtraFiles, f)
	}
	if got := finish(t, tight); got != (result{stdout: "character special file\ncharacter special file\n"}) {
		t.Errorf("in a container with room for six descriptors: %+v", got)
	}
	for _, tt := range []struct {
		code  int
		want  string
		words []string
	}{
		{2, "without descriptor 3", []string{"run", "--preserve-fds=1", "--", "true"}},
		{2, "without descriptor 3", []string{"exec", "--preserve-fds=1", "box", "true"}},
		{2, "want 0 to 64", []string{"run", "--preserve-fds=65", "--", "true"}},
		{2, "want 0 to 64", []string{"run", "--preserve-fds=-1", "--", "true"}},
	} {
		u.refuse(t, tt.code, tt.want, tt.words...)
	}
}

// preserve runs a command with two pipes, from the first of which it reads.
func preserve(t *testing.T, cmd *exec.Cmd, open string) {
	t.Helper()
	in, inw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, outw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{in, outw}
	if _, err := inw.WriteString("in\n"); err != nil {
		t.Fatal(err)
	}
	inw.Close()
	got := finish(t, cmd)
	in.Close()
	outw.Close()
	b, err := io.ReadAll(out) // ends if nobody has it any more
	out.Close()
	if got.code != 0 || got.stdout != "in\n"+open || string(b) != "out\n" || err != nil {
		t.Errorf("%+v, %q, %v", got, b, err)
	}
}

// TestLeftOpen starts containers with the end of a pipe, which nobody asked to keep: the
// pipe ends while they run.
func TestLeftOpen(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	for _, flag := range []string{"--detach", "--foreground"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := u.command(t, "run", flag, "--name", "box", "--", "sleep", "1000")
		cmd.ExtraFiles = []*os.File{w}
		err = cmd.Start()
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); err != nil {
			t.Error(err)
		}
		r.Close()
		u.must(t, "exec", "box", "true") // it runs
		u.must(t, "rm", "-f", "box")
		if err := cmd.Wait(); err != nil && flag == "--detach" {
			t.Error(err)
		}
	}
}

// TestPreserveRuntime has other OCI runtimes pass descriptors on.
func TestPreserveRuntime(t *testing.T) {
	attachtest.NeedTools(t, "crun")
	for _, name := range []string{"crun", "runc"} {
		if _, err := exec.LookPath(name); err != nil {
			continue // crun is there
		}
		u := newImageUser(t)
		if got := u.run(t, "sh", "-c", `echo in >in; exec 3<in 4>out; "$0" run --runtime "$1" --net=none --preserve-fds 2 box sh -c 'cat <&3; echo out >&4'; cat out`, binary(t), name); got.stdout != "in\nout\n" {
			t.Errorf("%s: %+v", name, got)
		}
		if got := u.run(t, "sh", "-c", `exec 3<in; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" run --runtime "$1" --net=none box sh -c 'cat <&3; echo $LISTEN_PID $$ $LISTEN_FDS'`, binary(t), name); got.stdout != "in\n1 1 1\n" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestSocketActivation has containers with sockets that a service manager listens at.
func TestSocketActivation(t *testing.T) {
	attachtest.Open(t)
	attachtest.NeedTools(t, "systemd-socket-activate")
	u := newUser(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	for name, flags := range map[string][]string{
		"foreground": nil, "detached": {"-d", "--name", "box"}, "unit": {"-d", "--foreground"},
	} {
		t.Run(name, func(t *testing.T) {
			words := []string{"-l", path, "-l", path + "2", "--fdname=web:admin"}
			for _, e := range append(u.env, listenedVar+"=1") { // it clears the environment
				words = append(words, "-E", e)
			}
			words = append(append(words, binary(t), "run", "--net=none", "-e", listenedVar), flags...)
			cmd := exec.Command("systemd-socket-activate", append(words, "--", self)...)
			cmd.Dir = u.dir
			done := make(chan result, 1)
			go func() { done <- finish(t, cmd) }()
			attachtest.Eventually(t, "the sockets are there", func() bool {
				_, err := os.Stat(path + "2")
				return err == nil
			})
			for i, addr := range []string{path, path + "2"} {
				if got := readAll(t, "unix", addr); got != fmt.Sprintf("web:admin %d", i) {
					t.Errorf("got %q", got)
				}
			}
			if got := <-done; got.code != 0 || got.stderr != "" && !strings.Contains(got.stderr, "Listening on") {
				t.Errorf("%+v", got)
			}
			if name == "detached" {
				if code := u.must(t, "wait", "box"); code != "0" {
					t.Errorf("code %s: %+v", code, u.slipway(t, "logs", "box"))
				}
			}
			for _, addr := range []string{path, path + "2"} {
				if c, err := net.Dial("unix", addr); err == nil {
					c.Close()
					t.Error("somebody has the socket still")
				}
				os.Remove(addr)
			}
		})
	}
}

// TestListenRefused has sockets that cannot be passed on, and those of others.
func TestListenRefused(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	sh := func(script string, words ...string) result {
		t.Helper()
		cmd := exec.Command("sh", append([]string{"-c", script + ` exec "$@"`, "sh", binary(t)}, words...)...)
		cmd.Env, cmd.Dir = u.env, u.dir
		return finish(t, cmd)
	}
	words := []string{"run", "--net=none", "--", "sh", "-c", "echo $LISTEN_FDS; test -e /proc/self/fd/3 || echo none"}
	for _, tt := range []struct{ script, stdout, stderr string }{
		{"export LISTEN_PID=1 LISTEN_FDS=1; exec 3</dev/null;", "\nnone\n", ""},
		{"export LISTEN_PID=$$ LISTEN_FDS=0;", "\nnone\n", ""},
		{"export LISTEN_PID=$$ LISTEN_FDS=x;", "", "want a number"},
		{"export LISTEN_PID=$$ LISTEN_FDS=65;", "", "want a number"},
		{"export LISTEN_PID=$$ LISTEN_FDS=2; exec 3</dev/null;", "", "without descriptor 4"},
	} {
		if got := sh(tt.script, words...); got.stdout != tt.stdout || !strings.Contains(got.stderr, tt.stderr) || (got.code == 0) != (tt.stderr == "") {
			t.Errorf("%s: %+v", tt.script, got)
		}
	}
	if got := sh("export LISTEN_PID=$$ LISTEN_FDS=1; exec 3</dev/null;", "run", "--net=none", "--init", "--", "true"); got.code != 2 || !strings.Contains(got.stderr, "leave --init out") {
		t.Errorf("%+v", got)
	}
	// What is started again has none.
	if got := sh("exec 3</dev/null;", "run", "-d", "--name", "box", "--net=none", "--preserve-fds=1", "--", "sh", "-c", "test -c /proc/self/fd/3"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := u.must(t, "wait", "box"); got != "0" {
		t.Errorf("exit code %s", got)
	}
	u.refuse(t, 1, "run it anew", "start", "box")
}
