// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestCopy copies there and back, by every kind of place.
func TestCopy(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.must(t, "run", "-d", "--name", "box", "--net", "none", "--", "sh", "-c", `mkdir -p /srv/sub; echo inside > /srv/sub/file; chmod 640 /srv/sub/file
		ln -s ../../etc/passwd /srv/sub/link; ln -s srv /s; mkfifo /srv/sub/pipe; touch /ready; exec sleep 1000`)
	attachtest.Eventually(t, "the container has its files", func() bool { return u.slipway(t, "exec", "box", "test", "-e", "/ready").code == 0 })
	path := func(name string) string { return filepath.Join(u.dir, name) }
	read := func(name, want string) {
		t.Helper()
		if b, err := os.ReadFile(path(name)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v, want %q", name, b, err, want)
		}
	}
	if err := errors.Join(os.Mkdir(path("here"), 0o755), os.WriteFile(path("mine"), []byte("outside\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	u.must(t, "cp", "box:/srv/sub/file", "here")
	read("here/file", "inside\n")
	u.must(t, "cp", "box:/s/sub/file", "named")
	read("named", "inside\n")
	u.must(t, "cp", "box:srv/sub", "tree")
	read("tree/file", "inside\n")
	if info, err := os.Stat(path("tree/file")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info, err)
	}
	if link, err := os.Readlink(path("tree/link")); err != nil || link != "../../etc/passwd" {
		t.Errorf("link %q, %v", link, err)
	}
	if _, err := os.Lstat(path("tree/pipe")); err == nil {
		t.Error("the pipe came along")
	}
	u.must(t, "cp", "mine", "box:/srv")
	u.must(t, "cp", "tree", "box:/srv/again")
	if got := u.must(t, "exec", "box", "sh", "-c", "cat /srv/mine /srv/again/file; stat -c %u /srv/mine"); got != "outside\ninside\n0" {
		t.Errorf("in the container: %q", got)
	}
	// In place of what is there; and all that is in a directory, into one that is there
	// or not.
	u.must(t, "cp", "named", "box:/srv/mine")
	u.must(t, "cp", "tree/.", "box:/srv/sub")
	u.must(t, "cp", "tree/.", "box:/srv/anew")
	if got := u.must(t, "exec", "box", "sh", "-c", "cd /srv; cat mine; ls sub anew"); got != "inside\nanew:\nfile\nlink\n\nsub:\nfile\nlink\npipe" {
		t.Errorf("in the container: %q", got)
	}
	u.refuse(t, 1, "not a directory", "cp", "mine/.", "box:/srv")
	u.refuse(t, 1, "no directory", "cp", "tree", "box:/srv/mine")
	u.must(t, "cp", "box:/srv/sub/link", "link")
	if link, err := os.Readlink(path("link")); err != nil || link != "../../etc/passwd" {
		t.Errorf("link %q, %v", link, err)
	}
	out := u.slipway(t, "cp", "box:/srv/sub", "-")
	tar := exec.Command("tar", "tf", "-")
	in := u.command(t, "cp", "-", "box:/tmp")
	for _, cmd := range []*exec.Cmd{tar, in} {
		w, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = w.Write([]byte(out.stdout))
			w.Close()
		}()
	}
	if got := finish(t, tar); got.stdout != "sub/\nsub/file\nsub/link\n" {
		t.Errorf("the archive: %+v", got)
	}
	if got := finish(t, in); got.code != 0 || got.stderr != "" {
		t.Errorf("cp -: %+v", got)
	}
	if got := u.must(t, "exec", "box", "cat", "/tmp/sub/file"); got != "inside" {
		t.Errorf("in the container: %q", got)
	}
	u.refuse(t, 1, "/none", "cp", "box:/none", "x")
	u.refuse(t, 1, "a device", "cp", "box:/dev/null", "x")
	u.refuse(t, 1, "a pipe", "cp", "box:/srv/sub/pipe", "x")
	u.refuse(t, 1, "a device", "cp", "/dev/null", "box:/srv/null")
	if got := u.must(t, "exec", "box", "sh", "-c", "ls /srv/null 2>/dev/null || echo none"); got != "none" {
		t.Errorf("of a device there is %q", got)
	}
	u.refuse(t, 1, "/none", "cp", "mine", "box:/none/deeper")
	u.refuse(t, 1, "no directory none/", "cp", "mine", "box:/srv/none/")
	u.refuse(t, 1, "no directory none/", "cp", "box:/srv/mine", "none/")
	u.must(t, "cp", "tree", "box:/srv/made/")
	u.must(t, "cp", "box:/srv/made", "made/")
	read("made/file", "inside\n")
	u.refuse(t, 1, "nothing-here", "cp", "nothing-here", "box:/")
	u.refuse(t, 2, "one of the two", "cp", "a", "b")
	u.refuse(t, 2, "one of the two", "cp", "box:a", "box:b")
	u.refuse(t, 1, "no such container", "cp", "other:a", "b")
	if _, err := os.Lstat(path("x")); err == nil {
		t.Error("a failed copy left something")
	}
}

// TestCopyRoot copies all that a container has, but for what is the kernel's.
func TestCopyRoot(t *testing.T) {
	attachtest.NeedTools(t, "busybox")
	attachtest.Open(t)
	u := newUser(t)
	root := filepath.Join(u.dir, "root")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(busybox)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Join(root, "bin"), 0o755), os.WriteFile(filepath.Join(root, "bin/busybox"), b, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	u.must(t, "run", "-d", "--name", "whole", "--net", "none", "--userns", "single", "--rootfs", root+":O", "--", "/bin/busybox", "sh", "-c", "echo so > /written; exec /bin/busybox sleep 1000")
	attachtest.Eventually(t, "the container has written", func() bool {
		return u.slipway(t, "exec", "whole", "/bin/busybox", "cat", "/written").stdout == "so\n"
	})
	u.must(t, "cp", "whole:/", "copy")
	if b, err := os.ReadFile(filepath.Join(u.dir, "copy/written")); err != nil || string(b) != "so\n" {
		t.Errorf("what it has written: %q, %v", b, err)
	}
	for _, dir := range []string{"proc", "sys"} {
		if list, err := os.ReadDir(filepath.Join(u.dir, "copy", dir)); err != nil || len(list) > 0 {
			t.Errorf("%s has %v, %v", dir, list, err)
		}
	}
}
