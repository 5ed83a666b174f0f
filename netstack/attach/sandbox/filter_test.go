// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/sandbox"
)

// filterOnly is a policy with nothing but the filter, or with nothing at all.
func filterOnly(filter sandbox.Mode) sandbox.Policy {
	return sandbox.Policy{Root: sandbox.Off, Landlock: sandbox.Off, Filter: filter}
}

const killed = "killed"

// TestFilter violates the filter in every way, and without it as well, where each
// attempt has to come to something else: else it would prove nothing.
func TestFilter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ attempt, want string }{
		{"execve", killed},
		{"execve-thread", killed},
		{"ptrace", killed},
		{"process_vm_readv", killed},
		{"fork", killed},
		{"clone-user", killed},
		{"unshare", killed},
		{"setns", killed},
		{"mount", killed},
		{"chroot", killed},
		{"bpf", killed},
		{"io_uring_setup", killed},
		{"keyctl", killed},
		{"userfaultfd", killed},
		{"memfd_create", killed},
		{"capset", killed},
		{"map-executable", killed},
		{"make-executable", killed},

		{"open-write " + path, "EACCES"},
		{"open-both " + path, "EACCES"},
		{"open-create " + path, "EACCES"},
		{"open-truncate " + path, "EACCES"},
		{"open-path " + path, "EACCES"},
		{"socket-packet", "EACCES"},
		{"socket-raw", "EACCES"},
		{"socket-alg", "EACCES"},
		{"socket-route", "EACCES"},
		{"socket-unix", "EACCES"},
		{"owner", "EACCES"},
		{"filter", "EACCES"},
		{"iptables", "EACCES"},
		{"ifflags", "EACCES"},
		{"signal-thread", "EACCES"},
		{"dumpable", "EACCES"},

		{"kill", "ENOSYS"},
		{"pidfd-signal", "ENOSYS"},
		{"seccomp", "ENOSYS"},
		{"mkdir " + path + ".dir", "ENOSYS"},
		{"rename " + path, "ENOSYS"},
		{"setrlimit", "ENOSYS"},
		{"truncate", "ENOSYS"},
		{"readlink /proc/self/exe", "ENOSYS"},
		{"unlink " + path, "ENOSYS"},
	} {
		t.Run(tt.attempt, func(t *testing.T) {
			if got := one(t, filterOnly(sandbox.Require), tt.attempt); got != tt.want {
				t.Errorf("with the filter: %s, want %s", got, tt.want)
			}
			if got := one(t, filterOnly(sandbox.Off), tt.attempt); got == tt.want {
				t.Errorf("without it: %s, too", got)
			}
		})
	}
}

// one makes one attempt and returns what came of it.
func one(t *testing.T, p sandbox.Policy, attempt string) string {
	t.Helper()
	o := run(t, p, nil, attempt)
	switch o.signal {
	case 0:
		return o.lines[0]
	case syscall.SIGSYS:
		return killed
	}
	t.Fatalf("%s: ended by %s", attempt, o.signal)
	return ""
}

// TestFilterAllows has all go through that a helper needs of what the filter looks at,
// and that which only some need.
func TestFilterAllows(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	some := filterOnly(sandbox.Require)
	some.Connect, some.Remove = []string{path}, []string{path}
	for _, tt := range []struct {
		policy  sandbox.Policy
		attempt string
		want    string
	}{
		{filterOnly(sandbox.Require), "socket-tcp", "ok"},
		{filterOnly(sandbox.Require), "socket-udp6", "ok"},
		{filterOnly(sandbox.Require), "socket-diag", "ok"},
		{filterOnly(sandbox.Require), "open " + path, "ok"},
		{filterOnly(sandbox.Require), "read " + path, "ok text"},
		{filterOnly(sandbox.Require), "stat " + path, "ok"},
		{filterOnly(sandbox.Require), "getrlimit", "ok"},
		{filterOnly(sandbox.Require), "map", "ok"},
		{filterOnly(sandbox.Require), "flags", "ok"},
		{filterOnly(sandbox.Require), "ttl", "ok"},
		{filterOnly(sandbox.Require), "queued", "ok"},
		{some, "socket-unix", "ok"},
		{some, "socket-unixgram", "EACCES"},
		{some, "unlink " + path, "ok"},
	} {
		if got := one(t, tt.policy, tt.attempt); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.attempt, got, tt.want)
		}
	}
}
