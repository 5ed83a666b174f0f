// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// onSmallDisks runs a shell script as the user, to whom both of its directories are
// file systems with hardly any room; "fill" takes what is left, "s" is the program.
func (u *user) onSmallDisks(t *testing.T, script string) result {
	t.Helper()
	attachtest.NeedTools(t, "unshare", "mount", "dd")
	cmd := u.command(t)
	const prelude = `set -u; s() { "$BINARY" "$@"; }
		for d in "$HOME" "$XDG_RUNTIME_DIR"; do mount -t tmpfs -o size=256k,mode=700 none "$d" || exit 99; done
		fill() { for d in "$HOME" "$XDG_RUNTIME_DIR"; do dd if=/dev/zero of="$d/filler" bs=4k 2>/dev/null; done; true; }
		clear() { rm "$HOME/filler" "$XDG_RUNTIME_DIR/filler"; }
	`
	cmd.Path = "/usr/bin/unshare"
	cmd.Args = []string{"unshare", "-rm", "sh", "-c", prelude + script}
	cmd.Env = append(cmd.Env, "BINARY="+binary(t))
	return finish(t, cmd)
}

// TestFullDisk has no room for a container, and none left when one ends.
func TestFullDisk(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	got := u.onSmallDisks(t, `fill; s run --net none -- true; echo $?; s run -d --net none --name x -- true; echo $?
		clear; s ps -aq; ls -A "$XDG_RUNTIME_DIR"/slipway/*`)
	lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
	if got.code != 0 || len(lines) != 2 || !strings.Contains(lines[0], "no space left") || !strings.Contains(lines[1], "no space left") {
		t.Errorf("got %+v, want two lines about space", got)
	}
	if want := "125\n125\n"; !strings.HasPrefix(got.stdout, want) || strings.Contains(got.stdout, ".new") {
		t.Errorf("got %q, want both to fail and nothing to be left", got.stdout)
	}
	// The container says a lot, whose end has no room; its exit code has.
	got = u.onSmallDisks(t, `s run -d --net none --name x --log-size 1000000 -- sh -c 'echo begun; read x < /dev/tcp/none 2>/dev/null; seq 100000; exit 6' >/dev/null
		s wait x; s inspect x | grep -c '"status": "exited"'; s logs x | head -1; fill; s run -d --net none --name y -- true 2>/dev/null; echo $?; s rm x`)
	if want := "6\n1\nbegun\n125\nx\n"; got.stdout != want || got.code != 0 {
		t.Errorf("got %+v, want %q", got, want)
	}
	// No room is left while it runs.
	got = u.onSmallDisks(t, `s run -d --net none --name x -- sh -c 'trap "exit 6" TERM; echo ready; while :; do sleep 0.01; done' >/dev/null
		until s logs x | grep -q ready; do sleep 0.01; done; fill; s stop x; s wait x; s inspect x | grep '"code"'; s exec x true; echo $?; s rm x`)
	if want := "x\n6\n      \"code\": 6,\n125\nx\n"; got.stdout != want {
		t.Errorf("got %+v, want %q", got, want)
	}
}

// TestNotify tells a service manager once the command runs.
func TestNotify(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	path := filepath.Join(u.dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	u.env = append(u.env, "NOTIFY_SOCKET="+path)
	if got := u.must(t, "run", "--net", "none", "--", "sh", "-c", "echo ${NOTIFY_SOCKET-none}"); got != "none" {
		t.Errorf("the command has NOTIFY_SOCKET %q", got)
	}
	if err := manager.SetReadDeadline(time.Now().Add(attachtest.Patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := manager.Read(b)
	if err != nil || string(b[:n]) != "READY=1\n" {
		t.Errorf("the manager hears %q, %v", b[:n], err)
	}
	u.env[len(u.env)-1] = "NOTIFY_SOCKET=relative"
	if got := u.slipway(t, "run", "--net", "none", "--", "true"); got.code != 0 || !strings.Contains(got.stderr, "not the address") {
		t.Errorf("a wrong address: %+v, want a warning", got)
	}
}
