// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestRuntimeLife has other OCI runtimes run a container, and does to it what can be done
// to one of ours.
func TestRuntimeLife(t *testing.T) {
	attachtest.NeedTools(t, "crun")
	for _, name := range []string{"crun", "runc"} {
		if _, err := exec.LookPath(name); err != nil {
			continue // crun is there
		}
		t.Run(name, func(t *testing.T) {
			u := newImageUser(t)
			must := func(args ...string) string {
				t.Helper()
				got := u.slipway(t, args...)
				if got.code != 0 {
					t.Fatalf("slipway %q: %+v", args, got)
				}
				return strings.TrimSuffix(got.stdout, "\n")
			}
			const script = "trap 'echo got it' HUP; trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"
			must("run", "-d", "--runtime", name, "--name", "other", "--hostname", "inner", "--sysctl", "net.ipv4.ip_unprivileged_port_start=77", "-e", "MINE=1", "box", "sh", "-c", script)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("%+v\n%+v\n%s", u.slipway(t, "inspect", "other"), u.slipway(t, "logs", "other"), u.run(t, "sh", "-c", "cat home/.local/share/slipway/containers/*/logs/supervisor*").stdout)
				}
			})
			attachtest.Eventually(t, "the command runs", func() bool {
				return u.slipway(t, "logs", "other").stdout == "up\n" || u.slipway(t, "ps", "-q").stdout == ""
			})
			for want, words := range map[string]string{
				"0 1 inner /tmp": "echo $(id -u) $MINE $(cat /proc/sys/kernel/hostname) $PWD",
				"77":             "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
				"NoNewPrivs: 1":  "while read -r line; do case $line in NoNewPrivs*) echo $line; esac; done </proc/self/status",
				"2":              "while read -r key value; do [ $key = Seccomp: ] && echo $value; done </proc/self/status; true",
				"cat: can't open '/host': No such file or directory": "cat /host 2>&1 || true",
			} {
				if got := must("exec", "other", "sh", "-c", words); got != want {
					t.Errorf("exec %s: %q, want %q", words, got, want)
				}
			}
			if got := u.slipway(t, "exec", "other", "sh", "-c", "exit 9"); got.code != 9 {
				t.Errorf("exec: %+v, want code 9", got)
			}
			if got := u.slipway(t, "exec", "other", "nothing"); got.code != 127 {
				t.Errorf("exec: %+v, want code 127", got)
			}
			if err := os.WriteFile(filepath.Join(u.dir, "in"), []byte("carried\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			must("cp", "in", "other:/tmp/there")
			must("cp", "other:/tmp/there", "out")
			if b, err := os.ReadFile(filepath.Join(u.dir, "out")); err != nil || string(b) != "carried\n" {
				t.Errorf("copied: %q, %v", b, err)
			}
			if got := must("stats", "--no-stream", "--json", "other"); !strings.Contains(got, `"processes":`) || strings.Contains(got, `"processes":0`) {
				t.Errorf("stats: %s", got)
			}
			must("kill", "-s", "HUP", "other")
			attachtest.Eventually(t, "the command has the signal", func() bool { return strings.Contains(u.slipway(t, "logs", "other").stdout, "got it") })
			must("stop", "other")
			if got := must("wait", "other"); got != "3" {
				t.Errorf("the exit code is %s, want 3", got)
			}
			if got := must("logs", "other"); got != "up\ngot it\nbye" {
				t.Errorf("the log is %q", got)
			}
			must("start", "other")
			attachtest.Eventually(t, "the command runs again", func() bool { return u.slipway(t, "exec", "other", "cat", "/tmp/there").stdout == "carried\n" })
			must("kill", "other")
			if got := must("wait", "other"); got != "137" {
				t.Errorf("the exit code is %s, want 137", got)
			}
			must("rm", "other")
		})
	}
}
