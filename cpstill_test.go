// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestCopyStill copies to and from containers that do not run.
func TestCopyStill(t *testing.T) {
	u := newImageUser(t)
	for _, ids := range []string{"host", "keep-id", "auto"} {
		for _, driver := range []string{"overlay", "copy"} {
			flags := []string{"--userns=" + ids, "--storage-driver=" + driver}
			if ids != "auto" { // which has no part in a directory of the user's
				flags = append(flags, "-v", ids+driver+":/mnt")
			}
			u.copyStill(t, ids+driver, flags...)
		}
	}
}

// TestCopyStillFuse does so where fuse-overlayfs serves the root.
func TestCopyStillFuse(t *testing.T) {
	u := newImageUser(t)
	needFuse(t)
	u.copyStill(t, "served", "--storage-driver=fuse-overlayfs")
}

// copyStill has a container name with the flags, copies there and back while it does not
// run, and starts it again.
func (u *imageUser) copyStill(t *testing.T, name string, flags ...string) {
	t.Helper()
	script := `test -e /srv/in && exec cat /srv/in/file /mnt/vol /tmp/fleeting; mkdir -p /srv /mnt; cd /srv; echo inside >file; echo vol >/mnt/kept
		ln -s /../../../../../../.. up; ln -s up/etc/hostname out; ln -s /proc/self/root/etc proc; chown 8:8 file; chmod 600 file`
	args := append([]string{"run", "-d", "-q", "--net=none", "-u", "0", "--name", name, "--tmpfs", "/tmp"}, flags...)
	if got := u.slipway(t, append(args, "box", "sh", "-c", script)...); got.code != 0 {
		t.Fatalf("run: %+v", got)
	}
	u.says(t, "0", "wait", name)
	mounts := u.run(t, "cat", "/proc/self/mountinfo").stdout
	u.says(t, "", "cp", name+":/srv/file", "got")
	u.says(t, "", "cp", name+":/mnt/kept", "kept")
	if got := u.run(t, "sh", "-c", `cat got kept; stat -c %a got; test -O got && echo mine; mkdir -p in; echo "$0" >in/file; ln -sfn /etc in/link`, name); got.stdout != "inside\nvol\n600\nmine\n" {
		t.Errorf("%s: copied out: %+v", name, got)
	}
	u.says(t, "", "cp", "in", name+":/srv")
	u.says(t, "", "cp", "got", name+":/mnt/vol")
	u.says(t, "", "cp", "got", name+":/mnt/vol") // in place of the first
	if got := u.run(t, "sh", "-c", `"$0" cp "$1" - | tar tf -`, binary(t), name+":/srv/in"); got.stdout != "in/\nin/file\nin/link\n" {
		t.Errorf("%s: the archive: %+v", name, got)
	}
	// What leads out of the container leads to its own root.
	for _, way := range []string{"/srv/up/", "/../../"} {
		u.says(t, "", "cp", name+":"+way+"srv/file", "again")
	}
	for _, tt := range []struct {
		from, to, want string
	}{
		{name + ":/srv/out/x", "x", "srv/out"},
		{name + ":/srv/proc/hostname", "x", "srv/proc"},
		{name + ":/none", "x", "/none"},
		{"got", name + ":/srv/file/x", "not a directory"},
		{"got", name + ":/tmp/fleeting", "read-only file system"},
		{"got", name + ":/dev/shm/x", "read-only file system"},
	} {
		if got := u.slipway(t, "cp", tt.from, tt.to); got.code != 1 || !strings.Contains(got.stderr, tt.want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("cp %s %s: %+v, want one line with %q", tt.from, tt.to, got, tt.want)
		}
	}
	if now := u.run(t, "cat", "/proc/self/mountinfo").stdout; now != mounts {
		t.Errorf("mounts: %s, want %s", now, mounts)
	}
	u.says(t, name, "start", name)
	u.says(t, "1", "wait", name) // there is no /tmp/fleeting
	if got := u.slipway(t, "logs", name); !strings.HasPrefix(got.stdout, name+"\ninside\n") {
		t.Errorf("%s: started again: %+v", name, got)
	}
	u.says(t, name, "rm", name)
}

// TestCopyStillHeld breaks off a copy into a container, which meanwhile nobody starts or
// removes.
func TestCopyStillHeld(t *testing.T) {
	u := newImageUser(t)
	u.slipway(t, "run", "-d", "--net=none", "--name", "held", "box", "true")
	u.says(t, "0", "wait", "held")
	got := u.run(t, "sh", "-c", `mkfifo pipe; exec 3<>pipe; "$0" cp - held:/home <pipe & cp=$!
		tar cf - tmp | head -c 512 >&3
		until "$0" start held 2>&1 | grep -o "in use"; do "$0" wait held; done
		"$0" rm -f held 2>&1 | grep -o "in use"; "$0" inspect held >/dev/null || echo gone
		kill -9 $cp; wait $cp; "$0" start held; "$0" wait held; "$0" cp held:/home - | tar tf -`, binary(t))
	if lines := strings.Split(got.stdout, "in use\n"); len(lines) != 3 || lines[2] != "held\n0\nhome/\nhome/mail\n" && lines[2] != "held\n0\nhome/\nhome/mail\nhome/tmp/\n" {
		t.Errorf("%+v", got)
	}
	attachtest.Eventually(t, "no process is left", func() bool { return len(processesOf(t, "slipway-init")) == 0 })
	u.says(t, "held", "rm", "held")
}

// TestCopyOfNothing has containers that do not run and keep no files.
func TestCopyOfNothing(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.must(t, "run", "-d", "--name", "box", "--net", "none", "--", "true")
	u.must(t, "wait", "box")
	u.refuse(t, 1, "not kept", "cp", "box:/etc/hostname", "x")
	u.refuse(t, 1, "not kept", "cp", os.Args[0], "box:/tmp")
}
