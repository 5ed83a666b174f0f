// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestJoinNetwork has containers in the network of another, and of a process.
func TestJoinNetwork(t *testing.T) {
	w := attachtest.Open(t)
	attachtest.NeedTools(t, "curl", "ip")
	u := newUser(t)
	const look = "readlink /proc/self/ns/net; cat /etc/resolv.conf; ip -o addr | grep -v link; grep Cap /proc/self/status"
	u.must(t, "run", "-d", "--name", "main", "--", "sleep", "1000")
	want := u.must(t, "exec", "main", "sh", "-c", look)
	if diff := cmp.Diff(want, u.must(t, "run", "--net", "container:main", "--", "sh", "-c", look)); diff != "" {
		t.Errorf("the network and rights of the second (-first's +its):\n%s", diff)
	}
	u.must(t, "run", "-d", "--name", "beside", "--net", "container:main", "--", "sleep", "1000")
	if diff := cmp.Diff(want, u.must(t, "exec", "beside", "sh", "-c", look)); diff != "" {
		t.Errorf("the network of what joins the second:\n%s", diff)
	}
	if got := u.must(t, "exec", "beside", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -ao 'sleep [1]000' | wc -l"); got != "1" {
		t.Errorf("the second sees %s commands, want its own", got)
	}
	for _, f := range attachtest.Families() {
		addr := serveHTTP(t, w.Peer, f.PeerAddr, []byte("hello"))
		if got := u.must(t, "exec", "beside", "curl", "-sS", "-m", "20", "http://"+addr); got != "hello" {
			t.Errorf("%s: %q", f.Name, got)
		}
	}
	u.must(t, "rm", "-f", "main")
	if got := u.inspect(t, "beside"); got.Status != "running" {
		t.Errorf("the second is %s after the end of the first", got.Status)
	}
	u.refuse(t, 125, "no such container", "run", "--net", "container:main", "--", "true")
	u.refuse(t, 125, "not a network namespace", "run", "--net", "/etc/passwd", "--", "true")
	u.refuse(t, 125, "not a network namespace", "run", "--net", "/proc/self/ns/user", "--", "true")
	u.refuse(t, 125, "our own", "run", "--net", "/proc/self/ns/net", "--", "true")
	u.refuse(t, 2, "publish ports where", "run", "-p", "0:80", "--net", "container:beside", "--", "true")
	u.refuse(t, 2, "private, none, host", "run", "--net", "container:", "--", "true")
	c := attachtest.NewContainer(t)
	if got, want := u.must(t, "run", "--net", c.NetNSPath(), "--", "readlink", "/proc/self/ns/net"), strings.TrimSpace(c.Exec(t, "readlink", "/proc/self/ns/net")); got != want {
		t.Errorf("the network at a path: %s, want %s", got, want)
	}
}

// TestKeepID runs a command as another user than root, under a pid 1 of ours, and
// has it stopped and joined.
func TestKeepID(t *testing.T) {
	attachtest.Open(t)
	u := newImageUser(t)
	got := u.slipway(t, "run", "-d", "--name", "kept", "--userns", "keep-id", "--net", "none", "--init", "box",
		"sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
	if got.code != 0 {
		t.Fatalf("run: %+v", got)
	}
	u.says(t, strconv.Itoa(os.Getuid()), "exec", "kept", "id", "-u")
	u.says(t, "0", "exec", "-u", "0", "kept", "id", "-u")
	attachtest.Eventually(t, "the command is ready", func() bool { return u.slipway(t, "logs", "kept").stdout == "ready\n" })
	if got := u.slipway(t, "stop", "-t", "-1", "kept"); got.code != 0 {
		t.Errorf("stop: %+v", got)
	}
	u.says(t, "5", "wait", "kept") // of a command that was asked to end
}
