// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/portfwd/portapi"
)

// A published is a helper with an API, and its container.
type published struct {
	*helper
	c   *attachtest.Place
	api string
}

func attachAPI(t *testing.T, flags ...string) published {
	t.Helper()
	attachtest.Open(t)
	api := filepath.Join(t.TempDir(), "api.sock")
	c := attachtest.NewContainer(t)
	return published{attachTo(t, c, append(flags, "--api", api)...), c, api}
}

// list returns the ports as the command prints them in JSON.
func (p published) list(t *testing.T) []portapi.Port {
	t.Helper()
	return decodePorts(t, slipway(t, "ports", p.api, "--json"))
}

func decodePorts(t *testing.T, r result) []portapi.Port {
	t.Helper()
	var ports []portapi.Port
	if err := json.Unmarshal([]byte(r.stdout), &ports); err != nil || r.code != 0 || r.stderr != "" {
		t.Fatalf("exit code %d, %v: %s%s", r.code, err, r.stdout, r.stderr)
	}
	return ports
}

// free reports whether nobody listens at the address.
func free(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// TestPorts lists, publishes and withdraws by the command.
func TestPorts(t *testing.T) {
	h := attachAPI(t, "-p", "127.0.0.1:0:80", "--publish", "[::1]:0:53/udp,loopback")
	first := h.list(t)
	if len(first) != 2 || first[0].Spec.ParentPort == 0 || first[1].Rule != fmt.Sprintf("[::1]:%d:53/udp,loopback", first[1].Spec.ParentPort) {
		t.Fatalf("ports: %+v, want those of --publish", first)
	}
	for _, p := range first {
		h.stderr.wait(t, "port is published", p.Rule)
	}
	got := slipway(t, "ports", h.api)
	if lines := strings.Split(got.stdout, "\n"); len(lines) != 4 ||
		strings.Join(strings.Fields(lines[0]), " ") != "ID PROTO HOST CONTAINER OPTIONS" ||
		strings.Join(strings.Fields(lines[2]), " ") != fmt.Sprintf("2 udp %s :53 loopback", first[1].Host) {
		t.Errorf("ports: exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	added := decodePorts(t, slipway(t, "ports", "--json", h.api, "add", "127.0.0.1:0:90-91", "127.0.0.1:0:92,defer"))
	if len(added) != 3 || !added[2].Spec.Defer || added[0].ID != 3 || free(added[0].Host) {
		t.Errorf("ports add: %+v", added)
	}
	// One that is taken, and so none.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	us := fmt.Sprintf("process %d", os.Getpid()) // which the helper in its sandbox does not see
	for rule, holder := range map[string]string{"127.0.0.1:" + port + ":80": us, added[0].Rule: ""} {
		got := slipway(t, "ports", h.api, "add", "127.0.0.1:0:80", rule)
		if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, rule) || !strings.Contains(got.stderr, holder) {
			t.Errorf("ports add %s: exit code %d, want 1 and one line that names it and %q: %s%s", rule, got.code, holder, got.stdout, got.stderr)
		}
	}
	if got := slipway(t, "ports", h.api, "rm", "1", "77"); got.code != 1 || !strings.Contains(got.stderr, "77") {
		t.Errorf("ports rm of an unknown port: exit code %d: %s", got.code, got.stderr)
	}
	if n := len(h.list(t)); n != 5 {
		t.Errorf("%d ports after failures, want 5", n)
	}
	if got := slipway(t, "ports", h.api, "rm", "--cut", "1", added[0].Rule, "5"); got != (result{}) {
		t.Errorf("ports rm: %+v, want nothing", got)
	}
	if diff := cmp.Diff([]portapi.Port{first[1], added[1]}, h.list(t)); diff != "" {
		t.Errorf("ports at the end (-want +got):\n%s", diff)
	}
	if !free(first[0].Host) || !free(added[0].Host) {
		t.Error("ports that were withdrawn are taken")
	}
}

// TestRootlessctl is RootlessKit's own client.
func TestRootlessctl(t *testing.T) {
	attachtest.NeedTools(t, "rootlessctl")
	h := attachAPI(t)
	ctl := func(args ...string) result {
		t.Helper()
		return finish(t, exec.Command("rootlessctl", append([]string{"--socket", h.api}, args...)...))
	}
	for _, want := range []string{"REST API version: 1.1.1", "State Directory: " + filepath.Dir(h.api), "Network Driver: slipway", "IP: 10.0.2.100", "DNS: [10.0.2.3 fd00::3]", "[tcp tcp4 tcp6 udp udp4 udp6]"} {
		if got := ctl("info"); got.code != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("info: exit code %d, want %q in:\n%s%s", got.code, want, got.stdout, got.stderr)
		}
	}
	if got := ctl("list-ports"); got.code != 0 || strings.Count(got.stdout, "\n") > 1 {
		t.Errorf("list-ports of none: %+v", got)
	}
	// Ports that are free now.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	specs := []string{fmt.Sprintf("127.0.0.1:%d:80/tcp", port), fmt.Sprintf("127.0.0.1:%d:10.0.2.100:53/udp4", port), fmt.Sprintf("[::1]:%d:80/tcp6", port)}
	for i, spec := range specs {
		if got := ctl("add-ports", spec); got.code != 0 || strings.TrimSpace(got.stdout) != strconv.Itoa(i+1) {
			t.Errorf("add-ports %s: %+v, want the ID %d", spec, got, i+1)
		}
	}
	if got := ctl("add-ports", specs[0]); got.code == 0 || !strings.Contains(got.stderr+got.stdout, strconv.Itoa(port)) {
		t.Errorf("add-ports %s again: %+v, want an error that names it", specs[0], got)
	}
	got := ctl("list-ports", "--json")
	for i, want := range []string{
		fmt.Sprintf(`{"id":1,"spec":{"proto":"tcp","parentIP":"127.0.0.1","parentPort":%d,"childPort":80}}`, port),
		fmt.Sprintf(`{"id":2,"spec":{"proto":"udp4","parentIP":"127.0.0.1","parentPort":%d,"childPort":53,"childIP":"10.0.2.100"}}`, port),
		fmt.Sprintf(`{"id":3,"spec":{"proto":"tcp6","parentIP":"::1","parentPort":%d,"childPort":80}}`, port),
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("list-ports lacks port %d as %s:\n%s%s", i+1, want, got.stdout, got.stderr)
		}
	}
	if got := ctl("remove-ports", "1", "3"); got.code != 0 {
		t.Errorf("remove-ports: %+v", got)
	}
	if got := ctl("remove-ports", "1"); got.code == 0 || !strings.Contains(got.stderr+got.stdout, "ID 1") {
		t.Errorf("remove-ports again: %+v, want an error that names it", got)
	}
	if ports := h.list(t); len(ports) != 1 || ports[0].ID != 2 {
		t.Errorf("ports at the end: %+v, want the second alone", ports)
	}
}

// TestRunPublishes has the rules' errors in `slipway run`, too.
func TestRunPublishes(t *testing.T) {
	attachtest.Open(t)
	if got := slipway(t, "run", "-p", "80:80/sctp", "--", "true"); got.code != 2 || !strings.Contains(got.stderr, "sctp") {
		t.Errorf("a bad rule: %+v, want exit code 2", got)
	}
	if got := slipway(t, "run", "-p", "192.0.2.1:0:80", "--", "true"); got.code != 125 || !strings.Contains(got.stderr, "192.0.2.1") {
		t.Errorf("an address of another: %+v, want exit code 125", got)
	}
	if got := slipway(t, "run", "-p", "127.0.0.1:0:80", "--", "true"); got != (result{}) {
		t.Errorf("a port: %+v, want nothing said", got)
	}
}
