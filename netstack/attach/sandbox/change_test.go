// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/sandbox"
)

// TestChange confines a process that has files of its own, children and terminals, as a
// container's supervisor has: what it is to do it does, in its own places, and all else is
// as for others.
func TestChange(t *testing.T) {
	for _, tt := range []struct{ attempt, want, free string }{
		{"open-create DIR/own/new", "ok", "ok"},
		{"open-truncate DIR/own/file", "ok", "ok"},
		{"read DIR/own/file", "ok own", "ok own"},
		{"mkdir DIR/own/dir", "ok", "ok"},
		{"rename DIR/own/file", "ok", "ok"},
		{"unlink DIR/own/file", "ok", "ok"},
		{"rmdir DIR/all/empty", "ok", "ok"},
		{"rmdir DIR/all/full", "ENOTEMPTY", "ENOTEMPTY"},
		{"open DIR/all", "ok", "ok"}, // to list it
		{"pidfd-signal", "EBADF", "EBADF"},
		{"set-window", "ENOTTY", "ENOTTY"},

		{"unlink DIR/all/full/file", "EACCES", "ok"},
		{"open-create DIR/all/new", "EACCES", "ok"},
		{"mkdir DIR/all/dir", "EACCES", "ok"},
		{"read DIR/all/full/file", "EACCES ", "ok others"},
		{"read DIR/home/secret", "EACCES ", "ok secret"},
		{"open-write DIR/home/secret", "EACCES", "ok"},
		{"open-create DIR/home/new", "EACCES", "ok"},
		{"unlink DIR/home/secret", "EACCES", "ok"},
		{"rename-to DIR/own/file DIR/home/file", "EACCES", "ok"},
		{"unlink DIR/gone/file", "ok", "ok"},
		{"rmdir DIR/gone/empty", "ok", "ok"},
		{"open DIR/gone", "ok", "ok"},
		{"read DIR/gone/file", "EACCES ", "ok mine"},
		{"open-write DIR/gone/file", "EACCES", "ok"},
		{"open-create DIR/gone/new", "EACCES", "ok"},
		{"mkdir DIR/gone/dir", "EACCES", "ok"},
		{"rename DIR/gone/file", "EACCES", "ok"},
		{"rename-to DIR/own/file DIR/gone/file", "EACCES", "ok"},
		{"open-create DIR/gone/own/new", "ok", "ok"},
		{"type-ahead", "EACCES", "ENOTTY"},
		{"execve", killed, "executed"},
		{"fork", killed, "ok"},
		{"setns", killed, "EBADF"},
		{"socket-unix", "EACCES", "ok"},
		{"kill", "ENOSYS", "ok"},
	} {
		t.Run(tt.attempt, func(t *testing.T) {
			for mode, want := range map[sandbox.Mode]string{sandbox.Require: tt.want, sandbox.Off: tt.free} {
				dir := write(t, map[string]string{"own/file": "own", "all/full/file": "others", "all/empty/file": "", "home/secret": "secret", "gone/file": "mine", "gone/empty/file": "", "gone/own/file": ""})
				one(t, filterOnly(sandbox.Off), expand("unlink DIR/all/empty/file", dir))
				one(t, filterOnly(sandbox.Off), expand("unlink DIR/gone/empty/file", dir))
				p := sandbox.Policy{
					Root: sandbox.Off, Landlock: mode, Filter: mode, Wait: true,
					Change: []string{dir + "/own", dir + "/gone/own"}, Clear: []string{dir + "/gone"}, Prune: []string{dir + "/all"},
				}
				if got := one(t, p, expand(tt.attempt, dir)); got != want {
					t.Errorf("in mode %d: %s, want %s", mode, got, want)
				}
			}
		})
	}
}
