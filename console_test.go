// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestConsole types into a detached container, and leaves it.
func TestConsole(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.must(t, "run", "-d", "-i", "--name", "con", "--net", "none", "--", "sh", "-c", "while read line; do echo got $line; [ $line = end ] && exit 4; done")
	open := func(flags ...string) (in io.WriteCloser, out *lines, ended chan int) {
		cmd := u.command(t, append(append([]string{"console"}, flags...), "con")...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, ended = newLines(), make(chan int, 1)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			_ = cmd.Wait() // its state tells
			ended <- cmd.ProcessState.ExitCode()
		}()
		return in, out, ended
	}
	in, out, ended := open()
	look, seen, looked := open("--no-stdin")
	defer look.Close()
	said := func(l *lines, text string) {
		t.Helper()
		attachtest.Eventually(t, "the console shows "+text, func() bool { return strings.Contains(l.String(), text) })
	}
	// What is answered before a console is open is not shown there.
	attachtest.Eventually(t, "both consoles show an answer", func() bool {
		fmt.Fprintln(in, "one")
		return strings.Contains(out.String(), "got one\n") && strings.Contains(seen.String(), "got one\n")
	})
	fmt.Fprint(in, "\x10\x11two\n") // ctrl-p,ctrl-q; what follows is not passed on
	if code := <-ended; code != 0 {
		t.Errorf("left with code %d", code)
	}
	if got := u.inspect(t, "con"); got.Status != "running" {
		t.Errorf("the container is %s after its console was left", got.Status)
	}
	in, out, ended = open("--detach-keys", "")
	fmt.Fprint(in, "\x10end\n")
	said(out, "got \x10end\n")
	fmt.Fprintln(in, "end")
	if code := <-ended; code != 4 {
		t.Errorf("code %d at the end, want 4", code)
	}
	if code := <-looked; code != 4 {
		t.Errorf("code %d at the end, want 4", code)
	}
	if strings.Contains(seen.String(), "two") {
		t.Errorf("what was typed after the detach keys came through: %q", seen.String())
	}
	u.refuse(t, 1, "not running", "console", "con")
	u.refuse(t, 2, "--detach-keys", "console", "--detach-keys", "ctrl-1", "con")
}

// TestStartAgain starts a container again as it was: in its directory, with its
// environment.
func TestStartAgain(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.env = append(u.env, "GIVEN=here")
	u.must(t, "run", "-d", "-t", "--name", "again", "--cidfile", "cid", "--net", "none", "-e", "GIVEN", "--", "sh", "-c", "echo $GIVEN; exit 3")
	if got := u.must(t, "wait", "again"); got != "3" {
		t.Errorf("wait: %s", got)
	}
	u.env = u.env[:len(u.env)-1]
	u.must(t, "start", "again")
	if got := u.must(t, "wait", "again"); got != "3" {
		t.Errorf("wait: %s", got)
	}
	if got := strings.ReplaceAll(u.must(t, "logs", "again"), "\r", ""); got != "here\nhere" {
		t.Errorf("log %q, want both", got)
	}
	u.must(t, "rm", "again")
	u.must(t, "run", "-d", "--name", "again", "--", "sleep", "1000")
	u.refuse(t, 1, "is running already", "start", "again")
	u.must(t, "run", "-d", "--replace", "--name", "again", "--", "sleep", "1001")
	if got := u.must(t, "ps", "--no-trunc"); !strings.Contains(got, "sleep 1001") || strings.Contains(got, "sleep 1000") {
		t.Errorf("ps after --replace:\n%s", got)
	}
}

// TestLook looks into a container that runs: by what takes its name.
func TestLook(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.must(t, "run", "-d", "--name", "look", "-p", "127.0.0.1:0:80", "-p", "127.0.0.1:0:53/udp", "--", "sleep", "1000")
	all := u.must(t, "port", "look")
	if !strings.Contains(all, "80/tcp -> 127.0.0.1:") || !strings.Contains(all, "53/udp -> 127.0.0.1:") {
		t.Errorf("port: %s", all)
	}
	if got := u.must(t, "port", "look", "80"); !strings.Contains(all, "80/tcp -> "+got) {
		t.Errorf("port 80: %s, of:\n%s", got, all)
	}
	u.refuse(t, 1, "not published", "port", "look", "81")
	for _, cmd := range []string{"flows", "ports"} {
		if got := u.must(t, cmd, "look"); !strings.HasPrefix(got, "ID ") {
			t.Errorf("%s: %s", cmd, got)
		}
	}
	if got := u.must(t, "stats", "--no-stream", "look"); strings.Count(got, "\n") != 1 || !strings.Contains(got, "look") {
		t.Errorf("stats: %s", got)
	}
	if got := u.must(t, "completion", "candidates", "--", "exec", "lo"); got != "look" {
		t.Errorf("candidates: %s", got)
	}
	unit := u.must(t, "generate", "systemd", "look")
	for _, line := range []string{"Type=notify", "ExecStart=" + binary(t) + " run --foreground --replace -d --name look -p 127.0.0.1:0:80 -p 127.0.0.1:0:53/udp -- sleep 1000"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit lacks %q:\n%s", line, unit)
		}
	}
	verifyUnit(t, unit)
	u.must(t, "stop", "-t", "0", "look")
	for _, cmd := range []string{"flows", "ports", "port", "stats"} {
		u.refuse(t, 1, "not running", cmd, "look")
	}
}

// TestShells has each shell that is there read its script.
func TestShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := slipway(t, "completion", shell)
		if script.code != 0 || script.stdout == "" {
			t.Errorf("%s: %+v", shell, script)
		}
	}
	got := slipway(t, "completion", "candidates", "--", "ps", "--n")
	if got != (result{stdout: "--no-trunc\n"}) {
		t.Errorf("candidates: %+v", got)
	}
	attachtest.NeedTools(t, "bash")
	dir := t.TempDir()
	if err := os.Symlink(binary(t), filepath.Join(dir, "slipway")); err != nil {
		t.Fatal(err)
	}
	u := newUser(t)
	u.env[2] = "PATH=" + dir + ":" + os.Getenv("PATH")
	cmd := u.command(t)
	cmd.Path, cmd.Args = "/bin/bash", []string{"bash", "-c", `source <(slipway completion bash); COMP_WORDS=(slipway ins); COMP_CWORD=1; _slipway; echo ${COMPREPLY[@]}`}
	if got := finish(t, cmd); got != (result{stdout: "inspect\n"}) {
		t.Errorf("bash completes ins to %+v", got)
	}
}

// TestMany has fifty containers at once.
func TestMany(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	const many = 50
	ids := make(chan string, many)
	for range many {
		go func() { ids <- strings.TrimSpace(u.slipway(t, "run", "-d", "--rm", "--", "sleep", "1000").stdout) }()
	}
	for range many {
		if id := <-ids; len(id) != 32 {
			t.Errorf("run printed %q", id)
		}
	}
	if got := strings.Fields(u.must(t, "ps", "-q")); len(got) != many {
		t.Errorf("ps lists %d containers, want %d", len(got), many)
	}
	if got := strings.Fields(u.must(t, append([]string{"stop", "-t", "0"}, strings.Fields(u.must(t, "ps", "-q"))...)...)); len(got) != many {
		t.Errorf("stop lists %d containers, want %d", len(got), many)
	}
	u.clean(t)
}

// verifyUnit has systemd say what it thinks of a unit.
func verifyUnit(t *testing.T, unit string) {
	t.Helper()
	attachtest.NeedTools(t, "systemd-analyze")
	dir := t.TempDir()
	file := filepath.Join(dir, "box.service")
	if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("systemd-analyze", "verify", "--user", "--man=no", "--recursive-errors=no", file)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s\nof:\n%s", err, out, unit)
	}
}

// TestUnit has systemd read units with words that mean something to it, and with signals
// of all kinds.
func TestUnit(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.env = append(u.env, `GIVEN=a "b" %h $HOME \x`)
	for _, sig := range []string{"QUIT", "RTMIN+3"} {
		name := "unit-" + sig[:4]
		u.must(t, "run", "-d", "--name", name, "--net", "none", "--stop-signal", sig, "-e", "GIVEN", "--label", "x=%n ${y} ; 'z", "--", "true", "a b", "é", ";", "\t")
		verifyUnit(t, u.must(t, "generate", "systemd", name))
	}
}
