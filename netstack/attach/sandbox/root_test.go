// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/sandbox"
)

func expand(s, dir string) string { return strings.ReplaceAll(s, "DIR", dir) }

// asRoot makes a process root of a user namespace of its own.
func asRoot(t *testing.T) *syscall.SysProcAttr {
	t.Helper()
	if b, err := os.ReadFile("/proc/sys/user/max_user_namespaces"); err == nil && strings.TrimSpace(string(b)) == "0" {
		t.Skip("user namespaces cannot be made here")
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// parents returns the paths of the directories that a path is in, "/" left out.
func parents(path string) []string {
	var out []string
	for path = filepath.Dir(path); path != "/"; path = filepath.Dir(path) {
		out = append([]string{path}, out...)
	}
	return out
}

// TestRoot lists what is left of the file system, on threads old and new, and has the
// rest of the sandbox in force with it.
func TestRoot(t *testing.T) {
	dir := write(t, map[string]string{
		"etc/resolv.conf": "->DIR/var/run/servers.conf", "etc/passwd": "",
		"var/run": "->../run", "run/servers.conf": "servers", "run/other": "", "api/socket": "", "home/secret": "secret",
	})
	// The absolute link is to be one of this directory.
	if err := os.Remove(dir + "/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/var/run/servers.conf", dir+"/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	p := sandbox.Policy{
		Root: sandbox.Require, Landlock: sandbox.Off, Filter: sandbox.Off,
		Read: []string{dir + "/etc/resolv.conf"}, Remove: []string{dir + "/api/socket"},
	}
	o := run(t, p, asRoot(t), "id", "tree", "read "+dir+"/etc/resolv.conf",
		"stat "+dir+"/home", "stat-thread "+dir+"/home", "stat /proc/self", "stat /../../etc/passwd",
		"open-create "+dir+"/run/new", "mkdir /new", "unlink "+dir+"/api/socket")
	var want []string
	for _, path := range []string{"/api/socket", "/etc/resolv.conf", "/run/other", "/run/servers.conf", "/var/run"} {
		for _, in := range parents(dir + path) {
			if len(want) == 0 || !strings.HasPrefix(want[len(want)-1], in) {
				want = append(want, in)
			}
		}
		want = append(want, dir+path)
	}
	wanted := []string{
		strconv.Itoa(o.pid), strings.Join(want, " "), "ok servers",
		"ENOENT", "ENOENT", "ENOENT", "ENOENT",
		"EROFS", "EROFS", "ok",
	}
	if diff := cmp.Diff(wanted, o.lines); diff != "" {
		t.Errorf("id, tree, and attempts (-want +got):\n%s", diff)
	}
	p.Landlock, p.Filter = sandbox.Require, sandbox.Require
	o = run(t, p, asRoot(t), "id", "read "+dir+"/etc/resolv.conf", "read "+dir+"/run/other", "stat "+dir+"/home", "open-create "+dir+"/run/new", "chroot")
	wanted = []string{strconv.Itoa(o.pid), "ok servers", "ok ", "ENOENT", "EACCES"}
	if diff := cmp.Diff(wanted, o.lines); diff != "" || o.signal != syscall.SIGSYS {
		t.Errorf("with all parts in force: ended by signal %d (-want +got):\n%s", o.signal, diff)
	}
}

// TestRootNeedsRight has a plain user go without an empty root, or fail.
func TestRootNeedsRight(t *testing.T) {
	if usesCgo {
		t.Skip("threads that are not Go's cannot be confined: test without cgo")
	}
	if os.Getuid() == 0 {
		t.Skip("root has the right: run the tests as a plain user, as make test does")
	}
	p := filterOnly(sandbox.Off)
	p.Root = sandbox.Auto
	o := run(t, p, nil, "stat /etc/passwd")
	if diff := cmp.Diff([]string{"ok"}, o.lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	p.Root = sandbox.Require
	if text := fails(t, p); !strings.Contains(text, "empty the root") || !strings.Contains(text, "CAP_SYS_ADMIN") {
		t.Errorf("error: %s", text)
	}
}
