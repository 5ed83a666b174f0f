// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher"
)

// TestBegun begins a container, and runs it, or another, or none. Nothing is left.
func TestBegun(t *testing.T) {
	r, w, err := os.Pipe() // with which the runtime opens its poller
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	single := launcher.Config{Args: []string{"/bin/sh", "-c", "exit 3"}, Net: launcher.NetNone}
	for _, tt := range []struct {
		name  string
		begun launcher.Config
		run   bool
	}{
		{"this one", single, true},
		{"another one", launcher.Config{Net: launcher.NetHost}, true},
		{"none", single, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := openFiles(t)
			b := launcher.Begin(tt.begun)
			if b == nil {
				t.Fatal("nothing was begun")
			}
			if tt.run {
				c := single
				c.Begun = b
				ct, err := launcher.New(c)
				if err != nil {
					t.Fatal(err)
				}
				code, err := ct.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if code != 3 {
					t.Errorf("exit code %d, want 3", code)
				}
			}
			b.Close()
			b.Close()
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != unix.ECHILD {
				t.Errorf("a child is left: %d, %v", pid, err)
			}
			if now := openFiles(t); now != before {
				t.Errorf("%d descriptors are open, %d were", now, before)
			}
		})
	}
	if b := launcher.Begin(launcher.Config{Runtime: "crun"}); b != nil {
		b.Close()
		t.Error("a container of another runtime was begun")
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
