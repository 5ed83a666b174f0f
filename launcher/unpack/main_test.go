// SPDX-License-Identifier: Apache-2.0

package unpack_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/unpack"
)

// when is the time of all files of the tests' archives.
var when = time.Unix(1_700_000_000, 0)

// An entry is a file in an archive.
type entry struct {
	name    string
	kind    byte // tar.Type*; zero is a regular file
	content string
	link    string
	mode    int64 // zero is 0755 for a directory and 0644 for others
	uid     int
	gid     int
	xattrs  map[string]string
	major   int64
}

func file(name, content string) entry { return entry{name: name, content: content} }
func dir(name string) entry           { return entry{name: name, kind: tar.TypeDir} }
func symlink(name, to string) entry   { return entry{name: name, kind: tar.TypeSymlink, link: to} }
func hardlink(name, to string) entry  { return entry{name: name, kind: tar.TypeLink, link: to} }
func whiteout(name string) entry      { return entry{name: name} }

// pack makes an archive.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Uid: e.uid, Gid: e.gid, ModTime: when, Devmajor: e.major, Size: int64(len(e.content)), Format: tar.FormatPAX}
		switch {
		case h.Typeflag == 0:
			h.Typeflag = tar.TypeReg
		case h.Typeflag == tar.TypeDir && h.Mode == 0:
			h.Mode = 0o755
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		for k, v := range e.xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A place is where a layer is unpacked.
type place struct {
	dir    string
	root   *os.File
	aside  *os.File
	recipe bytes.Buffer
}

// newPlace makes an empty place, with a file beside it that nothing may touch.
func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{dir: t.TempDir()}
	for _, d := range []string{"fs", "aside"} {
		if err := os.Mkdir(filepath.Join(p.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "outside"), []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(d string) *os.File {
		f, err := os.Open(filepath.Join(p.dir, d))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	p.root, p.aside = open("fs"), open("aside")
	t.Cleanup(func() {
		// Modes of the layer may keep a plain user from removing it.
		_ = filepath.WalkDir(p.dir, func(name string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(name, 0o755)
			}
			return nil
		})
	})
	return p
}

// unpack unpacks an archive as a user without other ids does.
func (p *place) unpack(archive []byte) (*unpack.Info, error) {
	return unpack.Layer(bytes.NewReader(archive), unpack.Config{Root: p.root, Aside: p.aside, Recipe: &p.recipe, Single: true, Writers: 2})
}

// must unpacks the entries.
func (p *place) must(t testing.TB, entries ...entry) *unpack.Info {
	t.Helper()
	archive := pack(t, entries...)
	info, err := p.unpack(archive)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256(archive)); info.DiffID != want {
		t.Errorf("digest %s, want %s", info.DiffID, want)
	}
	return info
}

// list describes the files of the place, one in a line: path, kind, and content or
// target, "opaque" for a directory that is.
func (p *place) list(t testing.TB) string {
	t.Helper()
	base := filepath.Join(p.dir, "fs")
	var lines []string
	err := filepath.WalkDir(base, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(base, name)
		lines = append(lines, rel+describe(t, name, d))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func describe(t testing.TB, name string, d fs.DirEntry) string {
	t.Helper()
	switch d.Type() {
	case fs.ModeDir:
		buf := make([]byte, 8)
		n, err := unix.Lgetxattr(name, unpack.OpaqueXattr, buf)
		if err == nil && string(buf[:n]) == "y" {
			return "/ opaque"
		}
		return "/"
	case fs.ModeSymlink:
		to, err := os.Readlink(name)
		if err != nil {
			t.Fatal(err)
		}
		return " -> " + to
	case fs.ModeDevice | fs.ModeCharDevice:
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil || st.Rdev != 0 {
			t.Errorf("%s is a device %d (%v)", name, st.Rdev, err)
		}
		return " removed"
	case fs.ModeNamedPipe:
		return " fifo"
	}
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	return " = " + string(b)
}

// untouched fails the test if something happened outside of the layer.
func (p *place) untouched(t testing.TB) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, "outside"))
	if err != nil || string(b) != "untouched" {
		t.Errorf("the file outside of the layer: %q, %v", b, err)
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("beside the layer there is %v (%v)", entries, err)
	}
}
