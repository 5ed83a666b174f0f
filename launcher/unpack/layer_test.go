// SPDX-License-Identifier: Apache-2.0

package unpack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/unpack"
)

func TestLayer(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entries []entry
		want    string // lines after that of the root
	}{
		{"files", []entry{dir("a/"), file("a/b", "B"), file("c", "")}, "a/\na/b = B\nc = "},
		{"no directories", []entry{file("a/b/c", "C")}, "a/\na/b/\na/b/c = C"},
		{"names", []entry{dir("./"), file("./a", "A"), file("/b", "B"), file("c//d/../e", "E")}, "a = A\nb = B\nc/\nc/e = E"},
		{"fifo", []entry{{name: "p", kind: tar.TypeFifo}}, "p fifo"},
		{"hard link", []entry{file("a", "A"), hardlink("b", "a"), hardlink("c", "/b")}, "a = A\nb = A\nc = A"},
		{"hard link to a symbolic one", []entry{symlink("a", "/nowhere"), hardlink("b", "a")}, "a -> /nowhere\nb -> /nowhere"},
		{"hard link again", []entry{file("a", "A"), hardlink("b", "a"), hardlink("b", "a")}, "a = A\nb = A"},
		{"through a symbolic link", []entry{dir("usr/"), dir("usr/lib/"), symlink("lib", "usr/lib"), file("lib/x", "X")}, "lib -> usr/lib\nusr/\nusr/lib/\nusr/lib/x = X"},
		{"through an absolute one", []entry{symlink("lib", "/usr/lib"), file("lib/x", "X")}, "lib -> /usr/lib\nusr/\nusr/lib/\nusr/lib/x = X"},
		{"whiteout", []entry{dir("a/"), whiteout("a/.wh.b")}, "a/\na/b removed"},
		{"opaque", []entry{dir("a/"), whiteout("a/.wh..wh..opq"), file("a/b", "B")}, "a/ opaque\na/b = B"},
		{"opaque root", []entry{whiteout(".wh..wh..opq")}, ""},
		{"whiteout before its file", []entry{whiteout(".wh.a"), file("a", "A")}, "a = A"},
		{"whiteout after its file", []entry{file("a", "A"), whiteout(".wh.a")}, "a = A"},
		{"whiteout before its directory", []entry{whiteout(".wh.a"), dir("a/"), file("a/b", "B")}, "a/ opaque\na/b = B"},
		{"whiteout after its directory", []entry{dir("a/"), file("a/b", "B"), whiteout(".wh.a")}, "a/ opaque\na/b = B"},
		{"marks of aufs", []entry{whiteout(".wh..wh.plnk"), whiteout(".wh..wh.aufs")}, ""},
		{"files and links in turn", []entry{file("a", "1"), hardlink("b", "a"), file("b", "2"), file("a", ""), file("a", "3"), file("b", "4")}, "a = 3\nb = 4"},
		{"file twice", []entry{file("a", "1"), file("a", "2")}, "a = 2"},
		{"file for a directory", []entry{dir("a/"), file("a/b", "B"), file("a", "A")}, "a = A"},
		{"directory for a file", []entry{file("a", "A"), dir("a/"), file("a/b", "B")}, "a/\na/b = B"},
		{"directory twice", []entry{dir("a/"), file("a/b", "B"), dir("a/")}, "a/\na/b = B"},
		{"directory for a link to one", []entry{dir("a/"), symlink("b", "a"), dir("b/"), file("b/c", "C")}, "a/\nb/\nb/c = C"},
		{"link for a directory", []entry{dir("a/"), file("a/x", "X"), dir("b/"), symlink("a", "b"), file("a/y", "Y")}, "a -> b\nb/\nb/y = Y"},
		{"directory and file in turn", []entry{
			dir("a/"), file("a/b/c", "1"), file("a/b/d", "2"), file("a/b/c", "3"), file("a/b", "4"), dir("a/b/"), file("a/b/c", "6"),
			hardlink("a/e", "a/b/c"), file("a", "7"), dir("a/"), file("a/b/c", "8"), file("a/b", ""), hardlink("z", "a/b"),
		}, "a/\na/b = \nz = "},
		{"whiteout before what is below it", []entry{whiteout(".wh.a"), file("a/b/c", "C"), whiteout("d/.wh.e"), file("d/e/f", "F")}, "a/ opaque\na/b/\na/b/c = C\nd/\nd/e/ opaque\nd/e/f = F"},
		{"devices", []entry{{name: "null", kind: tar.TypeChar, major: 1}, {name: "forged", kind: tar.TypeChar}, {name: "sda", kind: tar.TypeBlock}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			info := p.must(t, tt.entries...)
			_, got, _ := strings.Cut(p.list(t), "\n")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			p.untouched(t)
			p.rebuild(t, info)
		})
	}
}

// rebuild makes the archive again and compares it.
func (p *place) rebuild(t *testing.T, info *unpack.Info) {
	t.Helper()
	var b bytes.Buffer
	err := unpack.Rebuild(&b, unpack.Source{Root: p.root, Aside: p.aside, Recipe: &p.recipe, Paths: info.Aside})
	if err != nil {
		t.Errorf("make the archive again: %v", err)
		return
	}
	again := newPlace(t)
	got, err := again.unpack(b.Bytes())
	if err != nil || got.DiffID != info.DiffID {
		t.Errorf("the archive that was made again: %+v, %v, want %s", got, err, info.DiffID)
	}
}

func TestLayerMetadata(t *testing.T) {
	p := newPlace(t)
	p.must(t,
		entry{name: "closed/", kind: tar.TypeDir, mode: 0o500},
		file("closed/file", "F"),
		entry{name: "suid", mode: 0o4755, content: "S"},
		entry{name: "other's suid", mode: 0o6755, uid: 7, content: "S"},
		entry{name: "unreadable", mode: 0, content: "U", xattrs: map[string]string{"user.note": "N"}},
	)
	for name, want := range map[string]uint32{"closed": 0o40500, "suid": 0o104755, "other's suid": 0o100755} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(p.dir, "fs", name), &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode != want || st.Mtim.Sec != when.Unix() {
			t.Errorf("%s: mode %o, time %d, want %o and %d", name, st.Mode, st.Mtim.Sec, want, when.Unix())
		}
	}
	buf := make([]byte, 8)
	n, err := unix.Lgetxattr(filepath.Join(p.dir, "fs", "unreadable"), "user.note", buf)
	if err != nil || string(buf[:n]) != "N" {
		t.Errorf("attribute %q, %v, want N", buf[:max(n, 0)], err)
	}
}

// TestLayerHostile unpacks what only an attacker makes. Each must fail, with no trace
// outside of the layer.
func TestLayerHostile(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entries []entry
		want    string // part of the error
	}{
		{"name leads out", []entry{file("../outside", "X")}, "leads out"},
		{"name leads out later", []entry{file("a/../../outside", "X")}, "leads out"},
		{"whiteout leads out", []entry{whiteout("../.wh.outside")}, "leads out"},
		{"whiteout of the directory", []entry{whiteout("a/.wh.")}, "whiteout of no file"},
		{"whiteout of ..", []entry{whiteout("a/.wh...")}, "whiteout of no file"},
		{"hard link leads out", []entry{hardlink("a", "../outside")}, "leads out"},
		{"hard link to nothing", []entry{hardlink("a", "b")}, "no such file"},
		{"hard link to a directory", []entry{dir("d/"), hardlink("a", "d")}, "no file"},
		{"hard link to a whiteout", []entry{whiteout(".wh.b"), hardlink("a", "b")}, "no file"},
		{"hard link to itself", []entry{hardlink("a", "a")}, "no such file"},
		{"file below a file", []entry{file("a", "A"), file("a/b", "B")}, "not a directory"},
		{"file below a link to one", []entry{file("a", "A"), symlink("l", "a"), file("l/b", "B")}, "not a directory"},
		{"loop of links", []entry{symlink("a", "b"), symlink("b", "a"), file("a/c", "X")}, "symbolic link"},
		{"root is a file", []entry{file(".", "")}, "no directory"},
		{"root is a link", []entry{symlink(".", "/")}, "no directory"},
		{"long name", []entry{file(strings.Repeat("a/", 3000)+"a", "X")}, "more than"},
		{"long part of a name", []entry{file(strings.Repeat("a", 300), "X")}, "name too long"},
		{"unknown kind", []entry{{name: "a", kind: 'Q'}}, "unknown kind"},
		{"negative owner", []entry{{name: "a", uid: -1}}, "owner"},
		{"attributes without end", []entry{{name: "a", xattrs: map[string]string{"user.a": strings.Repeat("x", 40<<10), "user.b": strings.Repeat("x", 40<<10)}}}, "attributes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			_, err := p.unpack(pack(t, tt.entries...))
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			p.untouched(t)
		})
	}
}

// TestLayerLinksStayInside writes through links that lead out of the layer, were it
// not the root of all paths.
func TestLayerLinksStayInside(t *testing.T) {
	for _, tt := range []struct{ name, target string }{
		{"absolute", "/"},
		{"upwards", "../.."},
		{"to proc", "/proc/self/root"},
		{"by name", "../outside"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			_, err := p.unpack(pack(t, symlink("l", tt.target), file("l/outside", "X"), file("l", "X")))
			p.untouched(t)
			if err != nil {
				return
			}
			if _, err := os.Lstat("/outside"); err == nil {
				t.Error("a file was made in the host's root")
			}
		})
	}
}

// TestLayerForgedOverlay unpacks attributes by which overlayfs would be led to other
// files.
func TestLayerForgedOverlay(t *testing.T) {
	p := newPlace(t)
	forged := map[string]string{
		"user.overlay.redirect": "/etc/shadow", "user.overlay.metacopy": "", "user.overlay.opaque": "y", "user.overlay.origin": "x",
		"user.overlay.whiteout": "y", "trusted.overlay.opaque": "y", "security.selinux": "x", "user.fuseoverlayfs.origin": "../../x", "user.good": "y",
	}
	info := p.must(t, entry{name: "d/", kind: tar.TypeDir, xattrs: forged}, entry{name: "d/f", xattrs: forged})
	for _, name := range []string{"d", "d/f"} {
		buf := make([]byte, 1024)
		n, err := unix.Llistxattr(filepath.Join(p.dir, "fs", name), buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(buf[:n]); got != "user.good\x00" {
			t.Errorf("%s has the attributes %q, want user.good", name, got)
		}
	}
	if want := int64(2 * (len(forged) - 1)); info.Xattrs != want {
		t.Errorf("%d attributes left out, want %d", info.Xattrs, want)
	}
}

func TestLayerCompressed(t *testing.T) {
	archive := pack(t, file("a", strings.Repeat("A", 1<<20)), file("b", "B"))
	gz := func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
	zs := func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	for _, tt := range []struct {
		name string
		make func(io.Writer) io.WriteCloser
	}{{"gzip", gz}, {"zstd", zs}} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			w := tt.make(&b)
			if _, err := w.Write(archive); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			info, err := newPlace(t).unpack(b.Bytes())
			if err != nil || info.Size != int64(len(archive)) || info.Bytes != 1<<20+1 {
				t.Errorf("%+v, %v, want %d bytes of archive", info, err, len(archive))
			}
			for _, n := range []int{1, 5, b.Len() / 2, b.Len() - 1} {
				if _, err := newPlace(t).unpack(b.Bytes()[:n]); err == nil {
					t.Errorf("the first %d of %d bytes were taken for the whole", n, b.Len())
				}
			}
		})
	}
}

// TestLayerTruncated cuts an archive at every block.
func TestLayerTruncated(t *testing.T) {
	archive := pack(t, dir("d/"), file("d/a", strings.Repeat("A", 2000)), symlink("l", "d"), file("b", "B"))
	end := len(archive) - 1024 // the two blocks of zeros, without which it is whole, too
	for n := 512; n < end; n += 512 {
		info, err := newPlace(t).unpack(archive[:n])
		if err == nil && info.Size == int64(len(archive)) {
			t.Errorf("the first %d bytes were taken for the whole", n)
		}
	}
}

func TestLayerSparse(t *testing.T) {
	content := strings.Repeat("\x00", 1<<20) + "data" + strings.Repeat("\x00", 2<<20)
	p := newPlace(t)
	info := p.must(t, file("large", content), file("small", content[1<<20-100<<10:1<<20+4]), file("zeros", strings.Repeat("\x00", 64<<10)))
	for name, want := range map[string]int{"large": len(content), "small": 100<<10 + 4, "zeros": 64 << 10} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(p.dir, "fs", name), &st); err != nil {
			t.Fatal(err)
		}
		if st.Size != int64(want) || st.Blocks*512 > 64<<10 {
			t.Errorf("%s: %d bytes in %d blocks, want %d in few", name, st.Size, st.Blocks, want)
		}
	}
	got, err := os.ReadFile(filepath.Join(p.dir, "fs", "large"))
	if err != nil || string(got) != content {
		t.Errorf("a file with holes reads otherwise (%v)", err)
	}
	p.rebuild(t, info)
}

func TestLayerOwner(t *testing.T) {
	p := newPlace(t)
	_, err := unpack.Layer(bytes.NewReader(pack(t, entry{name: "a", uid: 1 << 30})), unpack.Config{Root: p.root, Writers: 1})
	if os.Getuid() == 0 {
		t.Skip("root may give files to anybody")
	}
	if err == nil || errors.Is(err, unpack.ErrOwner) { // EPERM outside of a user namespace
		t.Errorf("error %v, want one of chown", err)
	}
}

// TestLayerReplacedForever replaces one file with a long path over and over: what is
// remembered of that must not grow without end.
func TestLayerReplacedForever(t *testing.T) {
	p := newPlace(t)
	long := strings.Repeat(strings.Repeat("d", 200)+"/", 15) + "file"
	var entries []entry
	for range 100 {
		entries = append(entries, file(long, "x"))
	}
	if _, err := p.unpack(pack(t, entries...)); err == nil || !strings.Contains(err.Error(), "more than once") {
		t.Errorf("error %v, want one of files that are in it more than once", err)
	}
	p.untouched(t)
}

// TestLayerLongAttribute unpacks an attribute that only some file systems take: others
// are named for it, not the room on the disk.
func TestLayerLongAttribute(t *testing.T) {
	p := newPlace(t)
	value := strings.Repeat("v", 60<<10)
	own := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	takes := unix.Setxattr(own, "user.a", []byte(value), 0) == nil
	_, err := p.unpack(pack(t, entry{name: "a", xattrs: map[string]string{"user.a": value}}))
	if takes != (err == nil) || err != nil && !strings.Contains(err.Error(), "more than the file system takes") {
		t.Errorf("error %v, where the file system takes such ones: %v", err, takes)
	}
}
