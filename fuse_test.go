// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// needFuse has the test skip, or fail in CI, where fuse-overlayfs cannot be used.
func needFuse(t *testing.T) {
	t.Helper()
	attachtest.NeedTools(t, "fuse-overlayfs")
	if st, err := os.Stat("/dev/fuse"); err != nil || st.Mode().Perm()&0o006 != 0o006 {
		attachtest.Unavailable(t, fmt.Sprintf("/dev/fuse is not for everybody (%v)", err))
	}
}

// servers counts the processes of fuse-overlayfs on the user's machine.
func (u *imageUser) servers(t testing.TB) string {
	t.Helper()
	out, _ := u.Host.Run(t, "pgrep", "-c", "-x", "fuse-overlayfs")
	return strings.TrimSpace(out)
}

// inspect is what the program says of a container.
func (u *imageUser) inspect(t testing.TB, name string) inspected {
	t.Helper()
	var all []inspected
	got := u.slipway(t, "inspect", name)
	if err := json.Unmarshal([]byte(got.stdout), &all); err != nil || len(all) != 1 {
		t.Fatalf("inspect: %+v, %v", got, err)
	}
	return all[0]
}

// layeredImage is the user of an image "two" that hides a file, a directory's content
// and all of another directory of "box".
func layeredImage(t *testing.T) *imageUser {
	t.Helper()
	u := newImageUser(t)
	top := tarOf(t, map[string][]byte{
		"etc/": nil, "etc/.wh.shadow": nil, "home/": nil, "home/.wh..wh..opq": nil, "home/new": []byte("new\n"), ".wh.var": nil,
	})
	if got := u.slipway(t, "load", "-q", "-i", writeImage(t, u.dir, "two", boxTar(t), top)); got.code != 0 {
		t.Fatalf("load: %+v", got)
	}
	return u
}

// TestFuse has a root by fuse-overlayfs, whose layers are the store's.
func TestFuse(t *testing.T) {
	u := layeredImage(t)
	needFuse(t)
	run := func(args ...string) []string {
		return append([]string{"run", "-q", "--rm", "--net=none", "--storage-driver=fuse-overlayfs"}, args...)
	}
	for _, ids := range []string{"host", "keep-id", "auto", "nomap", "single"} {
		owner := "8:8"
		if ids == "single" {
			owner = "0:0"
		}
		u.says(t, "etc home new "+owner+"\ngone", run("--userns="+ids, "-u", "0", "two", "sh", "-c",
			"cd /; test -e /etc/shadow || echo $(ls -d etc home var 2>/dev/null) $(ls home) $(touch /tmp/x; id >/etc/new; "+
				"busybox chown 8:8 /tmp/x 2>/dev/null; stat -c %u:%g /tmp/x); rm -r /home /bin/ls; test -e /home || test -e /bin/ls || echo gone")...)
	}
	u.says(t, "1", run("two", "busybox", "grep", "-c", "^fuse-overlayfs / ", "/proc/mounts")...)
	u.says(t, "0 ro", run("--read-only", "two", "sh", "-c", "echo x 2>/dev/null >/etc/x || echo $(id -u) ro")...)
	// Nothing of the process is in the container.
	u.says(t, "1", run("two", "sh", "-c", "set -- /proc/[0-9]*; echo $#")...)
	u.says(t, "hi", run("--net=private", "two", "echo", "hi")...)
}

// TestFuseEnds kills the process that serves a root, and the supervisor of one.
func TestFuseEnds(t *testing.T) {
	u := layeredImage(t)
	needFuse(t)
	for _, who := range []string{"server", "supervisor", "nobody"} {
		u.slipway(t, "run", "-d", "--name", who, "--net=none", "--storage-driver=fuse-overlayfs", "two", "sh", "-c", "echo kept >/tmp/x; sleep 1000")
		if got := u.servers(t); got != "1" {
			t.Fatalf("%s processes of fuse-overlayfs, want 1", got)
		}
		if got := u.Host.Exec(t, "sh", "-c", "grep NoNewPrivs /proc/$(pgrep -x fuse-overlayfs)/status"); strings.Fields(got)[1] != "1" {
			t.Errorf("fuse-overlayfs may gain privileges: %s", got)
		}
		switch who {
		case "server":
			u.Host.Exec(t, "pkill", "-KILL", "-x", "fuse-overlayfs")
		case "supervisor":
			u.Host.Exec(t, "kill", "-KILL", fmt.Sprint(u.inspect(t, who).Supervisor.PID))
		default:
			u.says(t, who, "stop", "-t", "0", who)
		}
		attachtest.Eventually(t, "fuse-overlayfs ends with the container", func() bool { return u.servers(t) == "0" })
		u.slipway(t, "wait", who)
		if who == "server" {
			if got := u.inspect(t, who); got.Exit == nil || !strings.Contains(got.Exit.Error, "fuse-overlayfs ended") {
				t.Errorf("inspect does not say why: %+v", got)
			}
		}
		u.says(t, who, "rm", who)
	}
}

// TestFuseBroken has programs that are called fuse-overlayfs and are not.
func TestFuseBroken(t *testing.T) {
	u := newImageUser(t)
	needFuse(t)
	program := filepath.Join(u.dir, "bin", "fuse-overlayfs")
	if err := os.Mkdir(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"echo broken >&2; exit 3", "exit 0"} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		got := u.run(t, "env", "PATH="+filepath.Dir(program)+":"+podmanPath, binary(t), "run", "--net=none", "--storage-driver=fuse-overlayfs", "box")
		if got.code != 125 || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "fuse-overlayfs ended") || strings.Contains(script, "broken") != strings.Contains(got.stderr, "broken") {
			t.Errorf("%s: %+v", script, got)
		}
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"newuidmap", "newgidmap"} {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(filepath.Dir(program), name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := u.run(t, "env", "PATH="+filepath.Dir(program), binary(t), "run", "--net=none", "--storage-driver=fuse-overlayfs", "box"); got.code != 125 || !strings.Contains(got.stderr, "install the package") {
		t.Errorf("without the program: %+v", got)
	}
}
