// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestRunCNI runs a container in a network of CNI plugins: ours, as a plain user.
func TestRunCNI(t *testing.T) {
	w := attachtest.Open(t)
	plugins, err := pluginDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	state, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	conflist := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"ours","plugins":[{"type":"slipway-cni","subnet":"10.50.0.0/24","stateDir":%q,
		"capabilities":{"portMappings":true}}]}`, state)
	if err := os.WriteFile(filepath.Join(dir, "ours.conflist"), []byte(conflist), 0o600); err != nil {
		t.Fatal(err)
	}
	f := attachtest.Families()[0]
	peer := serveHTTP(t, w.Peer, f.PeerAddr, []byte(hello))
	run := func(args ...string) result {
		cmd := exec.Command(binary(t), append([]string{"run"}, args...)...)
		cmd.Env = append(os.Environ(), "NETCONFPATH="+dir, "CNI_PATH="+plugins)
		return finish(t, cmd)
	}
	r := run("--net", "cni:ours", "-p", "18095:80", "--", "sh", "-c", "ip -o -4 address show eth0; curl -s http://"+peer+"; cat /etc/resolv.conf")
	for _, want := range []string{"10.50.0.100/24", hello, "nameserver 10.50.0.3"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("exit code %d, seen %s %s, want %q", r.code, r.stdout, r.stderr, want)
		}
	}
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--net", "cni:none", "--", "true"}, 2, "there is no CNI network"},
		{[]string{"--net", "cni:ours", "-p", "0:80", "--", "true"}, 2, "--publish"},
		{[]string{"--net", "cni:ours", "-p", "auto", "--", "true"}, 2, "auto"},
	} {
		if r := run(tt.args...); r.code != tt.code || !strings.Contains(r.stderr, tt.says) {
			t.Errorf("%q: exit code %d, %s, want %d with %q", tt.args, r.code, r.stderr, tt.code, tt.says)
		}
	}
	// Where an attachment cannot be made there is no container.
	l := w.Host.Listen(t, netip.AddrPortFrom(f.HostAddr, 18096))
	if r := run("--net", "cni:ours", "-p", f.HostAddr.String()+":18096:80", "--", "true"); r.code != 125 || !strings.Contains(r.stderr, "18096") {
		t.Errorf("with a port in use: exit code %d, %s", r.code, r.stderr)
	}
	l.Close()
	left, err := filepath.Glob(state + "/*/*/*")
	if err != nil || len(left) > 0 {
		t.Errorf("something of an attachment is left: %q %v", left, err)
	}
}
