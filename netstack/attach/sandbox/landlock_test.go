// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/sandbox"
)

// write makes files below a new directory, with the directories that they are in, and
// symbolic links where the text starts with "->".
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if len(text) > 2 && text[:2] == "->" {
			err = os.Symlink(text[2:], path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestLandlock tries what it is to keep, without the filter, and what it is to let
// through; and all of that without Landlock, too.
func TestLandlock(t *testing.T) {
	abstract := "@" + filepath.Base(t.TempDir()) + fmt.Sprint(os.Getpid())
	l, err := net.Listen("unix", abstract)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tt := range []struct {
		attempt, want, free string
	}{
		{"read DIR/etc/resolv.conf", "ok servers", "ok servers"}, // by a link
		{"read DIR/run/resolve/servers.conf", "ok servers", "ok servers"},
		{"open-write DIR/run/resolve/servers.conf", "EACCES", "ok"},
		{"open-create DIR/run/resolve/new", "EACCES", "ok"},
		{"open DIR/run/resolve", "EACCES", "ok"}, // the directory
		{"unlink DIR/run/resolve/servers.conf", "EACCES", "ok"},
		{"mkdir DIR/run/resolve/new", "EACCES", "ok"},
		{"read DIR/home/secret", "EACCES ", "ok secret"},
		{"stat DIR/home/secret", "ok", "ok"}, // which Landlock cannot keep from anybody
		{"unlink DIR/home/secret", "EACCES", "ok"},
		{"rename DIR/run/api/socket", "EACCES", "ok"},
		{"unlink DIR/run/api/socket", "ok", "ok"},
		{"read DIR/run/api/socket", "EACCES ", "ok "},
		{"execve", "EACCES", "executed"},
		{"execve-thread", "EACCES", "executed"},
		{fmt.Sprintf("readlink /proc/%d/root", os.Getpid()), "EACCES", "ok"},
		{"abstract " + abstract, "EPERM", "ok"},
	} {
		t.Run(tt.attempt, func(t *testing.T) {
			if os.Getuid() == 0 && strings.HasPrefix(tt.attempt, "readlink") {
				t.Skip("who has given up capabilities cannot trace who has some")
			}
			for mode, want := range map[sandbox.Mode]string{sandbox.Require: tt.want, sandbox.Off: tt.free} {
				dir := write(t, map[string]string{
					"etc/resolv.conf": "->../run/resolve/servers.conf", "run/resolve/servers.conf": "servers",
					"run/api/socket": "", "home/secret": "secret",
				})
				p := sandbox.Policy{
					Root: sandbox.Off, Landlock: mode, Filter: sandbox.Off,
					Read: []string{dir + "/etc/resolv.conf"}, Remove: []string{dir + "/run/api/socket"},
				}
				if got := one(t, p, expand(tt.attempt, dir)); got != want {
					t.Errorf("Landlock in mode %d: %s, want %s", mode, got, want)
				}
			}
		})
	}
}

// TestLimits looks for what keeps the memory of the process to itself.
func TestLimits(t *testing.T) {
	p := filterOnly(sandbox.Off)
	if got := one(t, p, "core"); got != "0 0 0" {
		t.Errorf("limits of a core file, and whether it can be traced: %s, want none of that", got)
	}
}
