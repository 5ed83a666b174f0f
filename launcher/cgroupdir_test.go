// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/launcher"
)

func TestReadMembership(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text, path string
		legacy           []string
	}{
		{"version 2", "0::/user.slice/user-1000.slice/session-3.scope\n", "/user.slice/user-1000.slice/session-3.scope", nil},
		{"both", "9:name=systemd:/\n3:cpu,cpuacct:/x\n0::/a:b\n", "/a:b", []string{"name=systemd", "cpu", "cpuacct"}},
		{"version 1", "1:pids:/\n", "", []string{"pids"}},
		{"nonsense", "0::relative\n0:\n\n::\n", "", nil},
	} {
		path, legacy := launcher.ReadMembership(tt.text)
		if diff := cmp.Diff(tt.legacy, legacy); diff != "" || path != tt.path {
			t.Errorf("%s: path %q, want %q; controllers (-want +got):\n%s", tt.name, path, tt.path, diff)
		}
	}
}

func TestGroupDir(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ mountpoint, root, group, want string }{
		{"/sys/fs/cgroup", "/", "/a/b", "/sys/fs/cgroup/a/b"},
		{"/sys/fs/cgroup/unified", "/", "/", "/sys/fs/cgroup/unified"},
		{"/mnt", "/a", "/a/b", "/mnt/b"},
		{"/mnt", "/a", "/ab", ""},
		{"/mnt", "/a/..b", "/a/..b", "/mnt"},
		{"/mnt", "/../..", "/", ""}, // a mount from outside of the control group namespace
	} {
		got, ok := launcher.GroupDir(tt.mountpoint, tt.root, tt.group)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s of a mount of %s at %s: %q, %v, want %q", tt.group, tt.root, tt.mountpoint, got, ok, tt.want)
		}
	}
}

// FuzzReadMembership reads what a process may have named a group.
func FuzzReadMembership(f *testing.F) {
	f.Add("9:name=systemd:/\n0::/a:b\n")
	f.Fuzz(func(t *testing.T, text string) {
		if path, _ := launcher.ReadMembership(text); path != "" && path[0] != '/' {
			t.Errorf("the path is %q", path)
		}
	})
}
