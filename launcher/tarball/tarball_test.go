// SPDX-License-Identifier: Apache-2.0

package tarball_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/launcher/tarball"
	"golang.org/x/sys/unix"
)

func open(t testing.TB, dir string) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// tree lists what is below dir, with modes, contents and targets.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s", info.Mode(), p[len(dir)+1:])
		switch {
		case info.Mode().IsRegular():
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q %d", text, info.ModTime().Unix())
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", link)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRoundTrip(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	if err := errors.Join(
		os.MkdirAll(filepath.Join(src, "top/sub/closed"), 0o755),
		os.WriteFile(filepath.Join(src, "top/file"), []byte("text"), 0o640),
		os.WriteFile(filepath.Join(src, "top/sub/empty"), nil, 0o755),
		os.Chmod(filepath.Join(src, "top/sub/empty"), 0o755|fs.ModeSetuid),
		os.Symlink("/etc/passwd", filepath.Join(src, "top/out")),
		os.Symlink("sub", filepath.Join(src, "top/in")),
		unix.Mkfifo(filepath.Join(src, "top/pipe"), 0o600),
		os.Chmod(filepath.Join(src, "top/sub/closed"), 0o500),
		os.Chtimes(filepath.Join(src, "top/file"), time.Time{}, time.Unix(1000, 0)),
		os.Chtimes(filepath.Join(src, "top/sub/empty"), time.Time{}, time.Unix(2000, 0)),
	); err != nil {
		t.Fatal(err)
	}
	const want = `drwxr-xr-x new
-rw-r----- new/file "text" 1000
Lrwxrwxrwx new/in -> sub
Lrwxrwxrwx new/out -> /etc/passwd
drwxr-xr-x new/sub
dr-x------ new/sub/closed
-rwxr-xr-x new/sub/empty "" 2000
`
	for _, o := range []tarball.Options{{As: "new"}, {As: "new", SetID: true}} {
		var b bytes.Buffer
		if err := tarball.Pack(&b, open(t, src), "top", "x"); err != nil {
			t.Fatal(err)
		}
		if err := tarball.Unpack(&b, open(t, dst), o); err != nil { // the second time over the first
			t.Fatal(err)
		}
		want := want
		if o.SetID {
			want = strings.Replace(want, "-rwxr-xr-x new/sub/empty", "urwxr-xr-x new/sub/empty", 1)
		}
		if diff := cmp.Diff(want, tree(t, dst)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", o, diff)
		}
	}
	var b bytes.Buffer
	if err := tarball.Pack(&b, open(t, filepath.Join(src, "top/sub")), ".", "dot"); err != nil {
		t.Fatal(err)
	}
	all := t.TempDir()
	if err := tarball.Unpack(&b, open(t, all), tarball.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, all); !strings.Contains(got, "dot/empty") {
		t.Errorf("a directory by its dot:\n%s", got)
	}
	b.Reset()
	if err := tarball.Pack(&b, open(t, filepath.Join(src, "top/sub")), ".", "."); err != nil {
		t.Fatal(err)
	}
	named := t.TempDir()
	if err := tarball.Unpack(bytes.NewReader(b.Bytes()), open(t, named), tarball.Options{As: "new"}); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, named); !strings.Contains(got, " new/empty") {
		t.Errorf("a directory's own dot by a name:\n%s", got)
	}
	for _, link := range []string{"out", "in"} { // which lead out of the directory, and to another
		b.Reset()
		if err := errors.Join(tarball.Pack(&b, open(t, filepath.Join(src, "top")), link, link), tarball.Unpack(&b, open(t, named), tarball.Options{})); err != nil {
			t.Error(err)
		}
	}
	if got := tree(t, named); !strings.Contains(got, " in -> sub\n") || !strings.Contains(got, " out -> /etc/passwd\n") {
		t.Errorf("links by their names:\n%s", got)
	}
}

// An item is an entry of a hostile archive.
type item struct {
	name, link string
	kind       byte
}

func archive(t testing.TB, items []item) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := &tar.Header{Name: i.name, Linkname: i.link, Typeflag: i.kind, Mode: 0o644}
		if i.kind == tar.TypeReg {
			h.Size = 4
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if i.kind == tar.TypeReg {
			if _, err := w.Write([]byte("evil")); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Close()
	return &b
}

// TestHostile has archives that want to write beside what they were asked for.
func TestHostile(t *testing.T) {
	file := func(name string) item { return item{name: name, kind: tar.TypeReg} }
	link := func(name, to string) item { return item{name, to, tar.TypeSymlink} }
	for name, items := range map[string][]item{
		"parent":              {file("../mine")},
		"parent inside":       {file("x/../../mine")},
		"absolute":            {file("/mine")},
		"another top":         {file("x/a"), file("mine")},
		"link out":            {link("x/l", "/tmp"), file("x/l/evil")},
		"link to files here":  {link("x/l", ".."), file("x/l/mine")},
		"link in place":       {link("x", "secret"), file("x/mine")},
		"link after the dir":  {{name: "x/d/", kind: tar.TypeDir}, link("x/d", "../secret")},
		"hard link":           {{"x/l", "../mine", tar.TypeLink}},
		"hard link elsewhere": {{"x/l", "mine", tar.TypeLink}},
		"hard link by a link": {link("x/l", "../secret"), {"x/h", "x/l/mine", tar.TypeLink}},
		"unknown kind":        {{name: "x/a", kind: 'Q'}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "secret"), 0o700),
				os.WriteFile(filepath.Join(dir, "mine"), []byte("mine"), 0o600),
				os.WriteFile(filepath.Join(dir, "secret/mine"), []byte("mine"), 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := tarball.Unpack(archive(t, items), open(t, dir), tarball.Options{As: "x"}); err == nil {
				t.Error("it was unpacked")
			}
			for _, f := range []string{"mine", "secret/mine"} {
				if b, err := os.ReadFile(filepath.Join(dir, f)); err != nil || string(b) != "mine" {
					t.Errorf("%s is %q, %v", f, b, err)
				}
			}
			if entries, _ := os.ReadDir(filepath.Join(dir, "secret")); len(entries) != 1 {
				t.Errorf("secret has %v", entries)
			}
		})
	}
}

// TestDevices leaves devices and pipes out.
func TestDevices(t *testing.T) {
	dir := t.TempDir()
	items := []item{{name: "x/c", kind: tar.TypeChar}, {name: "x/b", kind: tar.TypeBlock}, {name: "x/p", kind: tar.TypeFifo}, {name: "x/f", kind: tar.TypeReg}}
	if err := tarball.Unpack(archive(t, items), open(t, dir), tarball.Options{}); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "x")); err != nil || len(entries) != 1 {
		t.Errorf("x has %v, %v", entries, err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, []item{{name: "x/a", kind: tar.TypeReg}, {"x/l", "..", tar.TypeSymlink}, {name: "x/l/b", kind: tar.TypeReg}}).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		in := filepath.Join(dir, "in")
		if err := os.Mkdir(in, 0o700); err != nil {
			t.Fatal(err)
		}
		_ = tarball.Unpack(bytes.NewReader(b), open(t, in), tarball.Options{As: "x"})
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("beside the directory there are %v, %v", entries, err)
		}
	})
}
