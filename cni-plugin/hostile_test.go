// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// An answer is what the plugin printed and how it ended.
type answer struct {
	types.Error
	code   int
	stdout string
}

// runPlugin runs a command to its end.
func runPlugin(t testing.TB, cmd *exec.Cmd) answer {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(attachtest.Patience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	kill.Stop()
	a := answer{code: cmd.ProcessState.ExitCode(), stdout: out.String()}
	if a.code != 0 {
		if err := json.Unmarshal(out.Bytes(), &a.Error); err != nil {
			t.Errorf("exit code %d, and what is printed is no error: %v: %s", a.code, err, out.String())
		}
	}
	return a
}

// TestBadInput has everything wrong that a runtime can get wrong.
func TestBadInput(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	c := attachtest.NewContainer(t)
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	slow := filepath.Join(t.TempDir(), "slow")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := func(keys string) string {
		return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":"slipway-cni","stateDir":%q%s}`, n.state, keys)
	}
	for _, tt := range []struct {
		name  string
		env   string // one that is different
		stdin string
		code  uint
		says  string
	}{
		{"nothing", "", "", 6, "unexpected end"},
		{"garbage", "", "\x00\xff{[", 6, "invalid character"},
		{"a megabyte of garbage", "", strings.Repeat("[", 1<<20), 6, "exceeded max depth"},
		{"a megabyte of a value", "", conf(`,"mac":"` + strings.Repeat("x", 1<<20) + `"`), 7, "mac"},
		{"no object", "", `[1]`, 6, "cannot unmarshal"},
		{"no name", "", `{"cniVersion":"1.1.0"}`, 7, "missing network name"},
		{"a strange name", "", `{"cniVersion":"1.1.0","name":"../x"}`, 7, "invalid characters"},
		{"an old version", "", `{"cniVersion":"0.3.1","name":"net"}`, 1, "incompatible"},
		{"a future version", "", `{"cniVersion":"7.0.0","name":"net"}`, 1, "incompatible"},
		{"no container", "CNI_CONTAINERID=", conf(""), 4, "CNI_CONTAINERID"},
		{"a strange container", "CNI_CONTAINERID=../../x", conf(""), 4, "invalid characters"},
		{"no namespace", "CNI_NETNS=", conf(""), 4, "CNI_NETNS"},
		{"no interface", "CNI_IFNAME=", conf(""), 4, "CNI_IFNAME"},
		{"a long interface", "CNI_IFNAME=abcdefghijklmnop", conf(""), 4, "interface name is too long"},
		{"an interface that is an option", "CNI_IFNAME=--help", conf(""), 0, ""},
		{"a pattern for an interface", "CNI_IFNAME=eth%d", conf(""), 100, "eth%d"},
		{"no plugins", "CNI_PATH=", conf(""), 4, "CNI_PATH"},
		{"a strange command", "CNI_COMMAND=BURN", conf(""), 4, "BURN"},
		{"a strange argument", "CNI_ARGS=a", conf(""), 7, "CNI_ARGS"},
		{"an unknown argument", "CNI_ARGS=COLOUR=red", conf(""), 7, "COLOUR"},
		{"our own namespace", "CNI_NETNS=/proc/self/ns/net", conf(""), 8, "own network namespace"},
		{"a file for a namespace", "CNI_NETNS=" + plain, conf(""), 8, "is not a network namespace"},
		{"another kind of namespace", "CNI_NETNS=/proc/self/ns/uts", conf(""), 8, "not a network namespace"},
		{"a namespace that is gone", "CNI_NETNS=/proc/999999999/ns/net", conf(""), 8, "no such file"},
		{"a relative namespace", "CNI_NETNS=ns/net", conf(""), 8, "absolute path"},
		{"an unknown key", "", conf(`,"denied":["10.0.0.0/8"]`), 2, `denied: ["10.0.0.0/8"]`},
		{"a key of another case", "", conf(`,"Deny":["10.0.0.0/8"]`), 2, "Deny"},
		{"an unknown capability", "", conf(`,"runtimeConfig":{"infinibandGUID":"c2:11"}`), 2, "infinibandGUID"},
		{"SCTP", "", conf(`,"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":1,"protocol":"sctp"}]}`), 2, "sctp"},
		{"port 0", "", conf(`,"portMappings":[{"hostPort":0,"containerPort":1}]`), 7, "hostPort 0"},
		{"port 65536", "", conf(`,"portMappings":[{"hostPort":1,"containerPort":65536}]`), 7, "65536"},
		{"a port at no address", "", conf(`,"portMappings":[{"hostPort":1,"containerPort":1,"hostIP":"x"}]`), 7, "hostIP"},
		{"two addresses of a family", "", conf(`,"runtimeConfig":{"ips":["10.0.2.7","10.0.2.8"]}`), 7, "10.0.2.8"},
		{"no address", "", conf(`,"runtimeConfig":{"ips":["red"]}`), 7, "red"},
		{"an address outside", "", conf(`,"subnet":"10.1.0.0/24","address":"10.2.0.1"`), 7, "10.2.0.1"},
		{"no subnet", "", conf(`,"subnet":"big"`), 7, "big"},
		{"both families off", "", conf(`,"ipv4":false,"ipv6":false`), 7, "IPv4 or an IPv6"},
		{"a group's MAC", "", conf(`,"mac":"01:00:00:00:00:01"`), 7, "unicast"},
		{"a huge MTU", "", conf(`,"mtu":1000000`), 7, "mtu 1000000"},
		{"an MTU of another type", "", conf(`,"mtu":"big"`), 6, "mtu"},
		{"a tiny MTU with IPv6", "", conf(`,"mtu":1000`), 100, "1280"},
		{"a rule that is none", "", conf(`,"deny":["everything"]`), 100, "everything"},
		{"a foreign gateway", "", conf(`,"routes":[{"dst":"10.0.0.0/8","gw":"10.0.2.9"}]`), 7, "10.0.2.9"},
		{"a route to nowhere", "", conf(`,"routes":[{}]`), 7, "dst"},
		{"many routes", "", conf(`,"routes":[` + strings.Repeat(`{"dst":"10.0.0.0/8"},`, 99) + `{"dst":"10.0.0.0/8"}]`), 100, "at most 16"},
		{"DHCP", "", conf(`,"ipam":{"type":"dhcp"}`), 2, "dhcp"},
		{"a slow modem", "", conf(`,"runtimeConfig":{"bandwidth":{"ingressRate":1}}`), 7, "at least 8"},
		{"a burst of nothing", "", conf(`,"runtimeConfig":{"bandwidth":{"egressBurst":1}}`), 7, "egressRate"},
		{"another driver", "", conf(`,"portDriver":"magic"`), 2, "magic"},
		{"a relative helper", "", conf(`,"helperPath":"slipway"`), 2, "absolute"},
		{"a helper that is not there", "", conf(`,"helperPath":"/nowhere/slipway"`), 100, "/nowhere/slipway"},
		{"another program for a helper", "", conf(`,"helperPath":"/bin/false"`), 100, "it said nothing"},
		{"a helper that never gets ready", "", conf(`,"readyTimeout":"50ms","helperPath":"` + slow + `"`), 101, "longer than 50ms"},
		{"no time at all", "", conf(`,"readyTimeout":"0s"`), 6, "0s"},
		{"prevResult of another kind", "", conf(`,"prevResult":{"ips":7}`), 6, "prevResult"},
		{"an interface that is there already", "", conf(`,"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"` + c.NetNSPath() + `"}]}`), 7, "eth0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := n.command(t, "ADD", n.attachment(c, "eth0").rt)
			cmd.Stdin = openText(t, tt.stdin)
			if tt.env != "" {
				cmd.Env = append(cmd.Env, tt.env)
			}
			got := runPlugin(t, cmd)
			if tt.code == 0 {
				if got.code != 0 {
					t.Errorf("failed: %d: %s", got.Code, got.Msg)
				}
				cmd := n.command(t, "DEL", n.attachment(c, "eth0").rt)
				cmd.Env = append(cmd.Env, tt.env)
				runPlugin(t, cmd)
				return
			}
			if text := got.Msg + " " + got.Details; got.code != 1 || got.Code != tt.code || !strings.Contains(text, tt.says) || len(text) > 8<<10 {
				t.Errorf("exit code %d, error %d: %.1000s, want 1 and %d with %q", got.code, got.Code, text, tt.code, tt.says)
			}
			if out := c.Exec(t, "ip", "-o", "link"); strings.Contains(out, "eth0") {
				t.Errorf("the interface is left: %s", out)
			}
			n.expectNothing(t)
		})
	}
}

// TestStateDir has no place for the state.
func TestStateDir(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	c := attachtest.NewContainer(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dir, says string }{
		{filepath.Join(dir, "state"), "permission denied"},
		{"/proc/none", "no such file"},
		{"/tmp", "only user"},
		{filepath.Join(t.TempDir(), strings.Repeat("long/", 30)), "invalid argument"},
	} {
		for _, verb := range []string{"ADD", "STATUS"} {
			if verb == "STATUS" && tt.says == "invalid argument" {
				continue // a length that is enough for a directory
			}
			cmd := n.command(t, verb, n.attachment(c, "eth0").rt)
			cmd.Stdin = openText(t, fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":"slipway-cni","stateDir":%q}`, tt.dir))
			if got := runPlugin(t, cmd); got.code != 1 || !strings.Contains(got.Msg, tt.says) {
				t.Errorf("%s with %s: exit code %d, error %d: %s; want one with %q", verb, tt.dir, got.code, got.Code, got.Msg, tt.says)
			}
		}
	}
	if out := c.Exec(t, "ip", "-o", "link"); strings.Contains(out, "eth0") {
		t.Errorf("the interface is left: %s", out)
	}
}

// TestStandardStreams has them closed, broken or leaked.
func TestStandardStreams(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	c := attachtest.NewContainer(t)
	a := n.attachment(c, "eth0")
	plugin := filepath.Join(n.path[0], "slipway-cni")
	t.Run("closed", func(t *testing.T) {
		cmd := n.command(t, "ADD", a.rt)
		cmd.Args, cmd.Path = []string{"sh", "-c", plugin + " <&- 2>&-"}, "/bin/sh"
		if got := runPlugin(t, cmd); got.Code != types.ErrDecodingFailure {
			t.Errorf("error %d: %s, want %d", got.Code, got.Msg, types.ErrDecodingFailure)
		}
		n.expectNothing(t)
	})
	t.Run("nobody reads the result", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd := n.command(t, "ADD", a.rt)
		cmd.Stdout = w
		if err := cmd.Run(); err == nil {
			t.Error("the plugin says that all is well")
		}
		w.Close()
		n.expectNothing(t)
	})
	// A runtime waits for the end of what it gave the plugin.
	t.Run("leaked", func(t *testing.T) {
		outR, outW, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		leakR, leakW, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := n.command(t, "ADD", a.rt)
		cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = outW, outW, []*os.File{leakW, leakW}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		outW.Close()
		leakW.Close()
		for _, r := range []*os.File{outR, leakR} {
			if err := r.SetReadDeadline(time.Now().Add(attachtest.Patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				t.Errorf("the pipe does not end while the helper runs: %v", err)
			}
			r.Close()
		}
		n.expectHelpers(t, 1)
		if got := runPlugin(t, n.command(t, "DEL", a.rt)); got.code != 0 || got.stdout != "" {
			t.Errorf("DEL: exit code %d, printed %q", got.code, got.stdout)
		}
	})
}

// TestEnvironment looks at what the helper has of the runtime's.
func TestEnvironment(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	a := n.attachment(attachtest.NewContainer(t), "eth0")
	cmd := n.command(t, "ADD", a.rt)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET=/run/notify", "LISTEN_FDS=1", "TRACEPARENT=00", "SECRET=1")
	if got := runPlugin(t, cmd); got.code != 0 {
		t.Fatalf("ADD: %d: %s", got.Code, got.Msg)
	}
	pid := n.helpers(t)[0]
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var session int
	fields := strings.Fields(string(status[bytes.LastIndexByte(status, ')')+1:]))
	if _, err := fmt.Sscan(fields[3], &session); err != nil || session != pid {
		t.Errorf("the helper, %d, is in session %d", pid, session)
	}
	if got := runPlugin(t, n.command(t, "DEL", a.rt)); got.code != 0 {
		t.Errorf("DEL: %d: %s", got.Code, got.Msg)
	}
}

// TestAbout is what a user sees who runs the plugin, and VERSION as libcni asks for it.
func TestAbout(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	cmd := exec.Command(filepath.Join(n.path[0], "slipway-cni"))
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if want := "CNI protocol versions supported: 0.4.0, 1.0.0, 1.1.0"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: %s, want %q", err, out, want)
	}
	cmd = exec.Command(filepath.Join(n.path[0], "slipway-cni"))
	cmd.Env = []string{"CNI_COMMAND=VERSION", "CNI_NETNS=dummy", "CNI_IFNAME=dummy", "CNI_PATH=dummy"}
	if got := runPlugin(t, cmd); !strings.Contains(got.stdout, `"supportedVersions":["0.4.0","1.0.0","1.1.0"]`) {
		t.Errorf("VERSION: exit code %d, %s", got.code, got.stdout)
	}
}
