// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// volumeImage is the user of an image "vol" with files for volumes to begin with.
func volumeImage(t *testing.T) *imageUser {
	t.Helper()
	u := newImageUser(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "srv/", Typeflag: tar.TypeDir, Mode: 0o1770, Uid: 8, Gid: 42},
		{Name: "srv/d/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 8, Gid: 8},
		{Name: "srv/d/secret", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 8, Gid: 8, Size: 7},
		{Name: "srv/d/again", Typeflag: tar.TypeLink, Linkname: "srv/d/secret"},
		{Name: "srv/suid", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 7},
		{Name: "srv/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", Uid: 8, Gid: 8},
		{Name: "srv/pipe", Typeflag: tar.TypeFifo, Mode: 0o600},
		{Name: "srv/.slipway-filling", Typeflag: tar.TypeReg, Mode: 0o600, Size: 7},
		{Name: "srv/.slipway-filled", Typeflag: tar.TypeSymlink, Linkname: "/"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := u.slipway(t, "load", "-q", "-i", writeImage(t, u.dir, "vol", boxTar(t), b.Bytes())); got.code != 0 {
		t.Fatalf("load: %+v", got)
	}
	return u
}

const volumeScript = "cd /srv && stat -c %a:%u:%g . d d/secret suid && echo $(busybox readlink link) $(cat d/secret) $(stat -c %h d/secret) $(test -p pipe && echo pipe) $(ls -a | busybox wc -l)"

// volumeWant is what volumeScript says of what the image has; "." and ".." count.
const volumeWant = "1770:8:42\n700:8:8\n600:8:8\n4755:0:0\n/etc/passwd xxxxxxx 2 pipe 6"

// TestVolumeFilled has volumes that are empty, and those that are not.
func TestVolumeFilled(t *testing.T) {
	u := volumeImage(t)
	run := func(args ...string) []string { return append([]string{"run", "--net=none", "-u", "0"}, args...) }
	for _, flag := range [][]string{
		{"-v", "one:/srv"}, {"-v", "two:/srv:ro"}, {"--mount", "type=volume,src=three,dst=/srv"}, {"--tmpfs", "/srv:tmpcopyup"},
		{"-v", "four:/srv", "--userns=keep-id"}, {"-v", "five:/srv", "--storage-driver=copy", "-q"},
	} {
		u.says(t, volumeWant, run(append(flag, "vol", "sh", "-c", volumeScript)...)...)
	}
	// What a container leaves is what the next one gets.
	u.says(t, "", run("-v", "one:/srv", "vol", "rm", "-r", "/srv/d", "/srv/suid")...)
	u.says(t, "link pipe", run("-v", "one:/srv", "vol", "sh", "-c", "echo $(ls /srv)")...)
	for _, flag := range [][]string{{"-v", "six:/srv:nocopy"}, {"--mount", "type=volume,src=seven,dst=/srv,volume-nocopy"}, {"--tmpfs", "/srv"}} {
		u.says(t, "0", run(append(flag, "vol", "sh", "-c", "ls -A /srv | busybox wc -l")...)...)
	}
	// What it is filled with is the container's root's as well, where that is asked for.
	u.says(t, "0:0 0:0", run("-v", "ten:/srv:U", "vol", "sh", "-c", "echo $(stat -c %u:%g /srv /srv/d/secret)")...)
	// The host's own root is no image.
	u.says(t, "0", "run", "--net=none", "-v", "eight:/etc", "--", "sh", "-c", "ls -A /etc | grep -v -e hosts -e hostname -e resolv.conf | wc -l")
	if got := u.slipway(t, run("-v", "nine:/home", "vol", "sh", "-c", "ls -A /home")...); got.stdout != "mail\n" {
		t.Errorf("a volume of another place: %+v", got)
	}
	u.Host.Exec(t, "rm", "-rf", filepath.Join(u.dir, "home/.local/share/slipway/volumes"))
}

// TestVolumeBrokenOff goes on with volumes whose filling was broken off: before all was
// copied, and after.
func TestVolumeBrokenOff(t *testing.T) {
	u := volumeImage(t)
	for name, script := range map[string]string{
		"copying": "printf c >%/../filling; mkdir -p %/.slipway-filling/deep/er; echo half >%/.slipway-filling/half",
		"moving":  "printf m >%/../filling; mkdir -p %/.slipway-filled/d; echo new >%/.slipway-filled/d/secret; echo old >%/suid",
		"forged":  "mkdir -p %/.slipway-filled/x %/.slipway-filling",
		"foreign": "echo mine >%/mine; mkdir %/.slipway-filling",
	} {
		dir := filepath.Join(u.dir, "home/.local/share/slipway/volumes", name, "_data")
		if got := u.run(t, "sh", "-c", "mkdir -p "+dir+"; "+strings.ReplaceAll(script, "%", dir)); got.code != 0 {
			t.Fatalf("prepare a volume: %+v", got)
		}
		want := map[string]string{"copying": volumeWant, "moving": "d suid new old", "foreign": "mine", "forged": ".slipway-filled .slipway-filling"}[name]
		see := map[string]string{"copying": volumeScript, "moving": "echo $(ls -A /srv) $(cat /srv/d/secret /srv/suid)", "foreign": "ls /srv", "forged": "echo $(ls -A /srv)"}[name]
		u.says(t, want, "run", "--net=none", "-u", "0", "-v", name+":/srv", "vol", "sh", "-c", see)
	}
	u.Host.Exec(t, "rm", "-rf", filepath.Join(u.dir, "home/.local/share/slipway/volumes"))
}

// TestVolumeLocked starts containers with volumes that somebody keeps locked, as a program
// in another container may: one that is filled, and one that is not.
func TestVolumeLocked(t *testing.T) {
	u := volumeImage(t)
	u.says(t, "mail", "run", "--net=none", "-v", "one:/home", "vol", "sh", "-c", "ls -A /home")
	volumes := filepath.Join(u.dir, "home/.local/share/slipway/volumes")
	if got := u.run(t, "mkdir", "-p", volumes+"/two/_data"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, name := range []string{"one", "two"} {
		dir, err := os.Open(filepath.Join(volumes, name, "_data"))
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		u.says(t, "mail", "run", "--net=none", "-v", name+":/home", "vol", "sh", "-c", "ls -A /home")
	}
	u.Host.Exec(t, "rm", "-rf", volumes)
}

// TestVolumeCommand lists, makes and removes volumes, whoever owns what is in them; one that
// a container has stays.
func TestVolumeCommand(t *testing.T) {
	u := volumeImage(t)
	const none = "NAME  CONTAINERS"
	refuse := func(code int, want string, args ...string) {
		t.Helper()
		if got := u.slipway(t, args...); got.code != code || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("slipway %q: %+v, want code %d and one line with %q", args, got, code, want)
		}
	}
	u.says(t, none, "volume")
	u.says(t, "700", "run", "--net=none", "-v", "data:/srv", "vol", "stat", "-c", "%a", "/srv/d")
	u.slipway(t, "run", "-d", "--name", "box", "--net=none", "-v", "data:/srv", "vol", "sleep", "1000")
	u.says(t, "made", "volume", "create", "made")
	u.says(t, none+"\ndata  box\nmade", "volume", "ls")
	u.says(t, "data\nmade", "volume", "ls", "-q")
	refuse(1, "slipway rm box", "volume", "rm", "data")
	u.slipway(t, "stop", "-t", "0", "box")
	refuse(1, "slipway rm box", "volume", "rm", "data")
	u.says(t, "box", "rm", "box")
	var rows []struct{ Name, Path string }
	if err := json.Unmarshal([]byte(u.slipway(t, "volume", "--json").stdout), &rows); err != nil || len(rows) != 2 || !strings.HasSuffix(rows[0].Path, "/volumes/data/_data") {
		t.Errorf("rows %v, %v", rows, err)
	}
	u.says(t, "data\nmade", "volume", "rm", "data", "made")
	u.says(t, none, "volume")
	refuse(1, "no such volume", "volume", "rm", "data")
	u.says(t, "data", "volume", "rm", "-f", "data")
	refuse(2, "letters", "volume", "rm", "../containers")
	refuse(1, "letters", "volume", "create", "a/b")
	refuse(2, "want ls, create or rm", "volume", "list")
	refuse(2, "want the NAME", "volume", "rm")
	refuse(2, "no argument", "volume", "ls", "data")
}
