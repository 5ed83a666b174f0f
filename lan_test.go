// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestPrivateNetwork has a container fetch a page from another by its name, on a network
// that a third is not on.
func TestPrivateNetwork(t *testing.T) {
	attachtest.Open(t)
	attachtest.NeedTools(t, "busybox", "curl", "getent")
	dir := t.TempDir()
	env := append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
	command := func(network string, words ...string) *exec.Cmd {
		cmd := exec.Command(binary(t), append([]string{"run", "--network", network}, words...)...)
		cmd.Env = env
		return cmd
	}
	// The page is there when its server is asked; until then curl asks again.
	server := command("shop", "--hostname", "db", "--network-alias", "store", "--", "sh", "-ec",
		"mkdir /run/www; echo of the database >/run/www/index.html; exec busybox httpd -f -p 8080 -h /run/www")
	errs := newLines()
	server.Stderr = errs
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill() // and with it the container
		_ = server.Wait()
		if t.Failed() {
			t.Logf("the server wrote:\n%s", errs)
		}
	})
	fetch := `until curl -gsS --retry 0 -m 5 "http://$1:8080/"; do sleep 0.05; done`
	for _, name := range []string{"db", "STORE"} {
		for _, family := range []string{"-4", "-6"} {
			r := finish(t, command("shop", "--hostname", "web", "--", "timeout", "30", "sh", "-c",
				strings.Replace(fetch, "-gsS", "-gsS "+family, 1), "sh", name))
			if r.code != 0 || r.stdout != "of the database\n" {
				t.Errorf("%s %s: exit code %d, %q, %s", name, family, r.code, r.stdout, r.stderr)
			}
		}
	}
	if r := finish(t, command("other", "--", "sh", "-c", "getent hosts db || getent hosts store || echo nobody")); r.stdout != "nobody\n" {
		t.Errorf("on another network: %q, %s", r.stdout, r.stderr)
	}
}

func TestPrivateNetworkUsage(t *testing.T) {
	for _, tt := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--network-alias", "a"}, "give --network"},
		{[]string{"--network", "a", "--net", "none"}, "--net private"},
		{[]string{"--network", "../a"}, `name "../a"`},
		{[]string{"--network", "a,a"}, "given twice"},
		{[]string{"--network", "a", "--network-alias", "b c"}, `name "b c"`},
	} {
		r := slipway(t, append(append([]string{"run"}, tt.flags...), "--", "true")...)
		if r.code != 2 || !strings.Contains(r.stderr, tt.want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, %q, want 2 and %q", tt.flags, r.code, r.stderr, tt.want)
		}
	}
}
