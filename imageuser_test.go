// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// boxTar is the archive of a layer with busybox, and with a file of another owner.
func boxTar(t testing.TB) []byte {
	t.Helper()
	attachtest.NeedTools(t, "busybox")
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	box, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		t.Helper()
		h.Size = int64(len(content))
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "etc", "tmp", "var", "home"} {
		add(tar.Header{Name: d + "/", Typeflag: tar.TypeDir}, "")
	}
	add(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg}, string(box))
	for _, a := range []string{"sh", "ls", "cat", "id", "echo", "stat", "rm", "sleep", "touch", "mkdir", "true"} {
		add(tar.Header{Name: "bin/" + a, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, "")
	}
	add(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, "root:x:0:0::/root:/bin/sh\nmail:x:8:8::/:/bin/sh\n")
	add(tar.Header{Name: "etc/shadow", Typeflag: tar.TypeReg, Mode: 0o640, Gid: 42}, "secret\n")
	add(tar.Header{Name: "home/mail", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 8, Gid: 8}, "letter\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// imageArchive writes an image "box" of that layer as docker save does, and returns the
// name of the file.
func imageArchive(t testing.TB, dir string) string { return writeImage(t, dir, "box", boxTar(t)) }

// writeImage is imageArchive for an image of these layers, the lowest first.
func writeImage(t testing.TB, dir, tag string, layers ...[]byte) string {
	t.Helper()
	name := filepath.Join(dir, tag+".tar")
	config := map[string]any{"Env": []string{"PATH=/bin", "KEY=image"}, "Cmd": []string{"echo", "default"}, "WorkingDir": "/tmp"}
	writeArchive(t, name, "localhost/"+tag+":latest", config, layers...)
	return name
}

// writeArchive writes an image as docker save does: its name, its configuration as the OCI
// image-spec has it, and the archives of its layers, the lowest first.
func writeArchive(t testing.TB, file, name string, config map[string]any, layers ...[]byte) {
	t.Helper()
	files := map[string][]byte{}
	var names, ids []string
	for i, l := range layers {
		names, ids = append(names, fmt.Sprintf("layer%d.tar", i)), append(ids, fmt.Sprintf("sha256:%x", sha256.Sum256(l)))
		files[names[i]] = l
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	files["config.json"] = encode(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	files["manifest.json"] = encode([]any{map[string]any{"Config": "config.json", "RepoTags": []string{name}, "Layers": names}})
	if err := os.WriteFile(file, tarOf(t, files), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tarOf is an archive of files, in the order of their names.
func tarOf(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An imageUser is the plain user of a machine of its own, where it has subordinate ids,
// with the image "box".
type imageUser struct {
	*attachtest.Machine
	dir string
	env []string
}

// newImageUser makes one. The test fails if anything is left of its images.
func newImageUser(t testing.TB) *imageUser {
	t.Helper()
	dir, err := os.MkdirTemp("", "img")
	if err != nil {
		t.Fatal(err)
	}
	m := attachtest.NewMachine(t)
	u := &imageUser{Machine: m, dir: dir, env: []string{"HOME=" + dir + "/home", "XDG_RUNTIME_DIR=" + dir + "/run", "TMPDIR=" + dir + "/tmp", "PATH=" + podmanPath}}
	for _, d := range []string{"home", "run", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		u.slipway(t, "rm", "-fa")
		u.slipway(t, "rmi", "-a")
		for _, dir := range []string{"layers", "shifted", "writable", "tmp", "trash", "images", "refs", "blobs"} {
			left, err := filepath.Glob(filepath.Join(u.dir, "home/.local/share/slipway", dir, "*"))
			if err != nil || len(left) > 0 {
				t.Errorf("files are left behind: %v %v", left, err)
			}
		}
		m.Host.Exec(t, "rm", "-rf", dir)
	})
	if got := u.slipway(t, "load", "-q", "-i", imageArchive(t, u.dir)); got.code != 0 || got.stdout != "Loaded image: localhost/box:latest\n" {
		t.Fatalf("load: %+v", got)
	}
	return u
}

// slipway runs the program to its end.
func (u *imageUser) slipway(t testing.TB, args ...string) result {
	t.Helper()
	return u.run(t, append([]string{binary(t)}, args...)...)
}

// run runs a command of the user to its end.
func (u *imageUser) run(t testing.TB, argv ...string) result {
	t.Helper()
	const script = `cd "$1"; shift; "$@" >tmp/stdout 2>tmp/stderr </dev/null`
	_, code := u.Host.Run(t, u.AsUser(u.env, append([]string{"sh", "-c", script, "sh", u.dir}, argv...)...)...)
	r := result{code: code}
	for name, s := range map[string]*string{"stdout": &r.stdout, "stderr": &r.stderr} {
		b, err := os.ReadFile(filepath.Join(u.dir, "tmp", name))
		if err != nil {
			t.Fatal(err)
		}
		*s = string(b)
	}
	return r
}

// says fails the test unless the command prints want.
func (u *imageUser) says(t *testing.T, want string, args ...string) {
	t.Helper()
	if got := u.slipway(t, args...); got.code != 0 || strings.TrimSpace(got.stdout) != want {
		t.Errorf("slipway %s: %+v, want %q", strings.Join(args, " "), got, want)
	}
}
