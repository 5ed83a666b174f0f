// SPDX-License-Identifier: Apache-2.0

package tarsplit

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

// outside is the content of a file that no list of pieces may reach.
const outside = "not for an image"

// layer is a directory of files, open, and beside it the file with that content.
func layer(t testing.TB, names ...string) int {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "diff")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range append(names, "../outside") {
		content := "content of " + n
		if n == "../outside" {
			content = outside
		}
		p := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link": "../outside", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return int(d.Fd())
}

// split takes an archive of the files apart as Podman does.
func split(t testing.TB, names ...string) (archive, pieces []byte) {
	t.Helper()
	var b, out bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range names {
		h := &tar.Header{Name: n, Mode: 0o600, Size: int64(len("content of " + n)), Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", 70_000)}}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "content of "+n); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&out)
	r, done, err := asm.NewInputTarStreamWithDone(bytes.NewReader(b.Bytes()), storage.NewJSONPacker(z), storage.NewDiscardFilePutter())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), out.Bytes()
}

// TestJoin makes the archive again, bit for bit.
func TestJoin(t *testing.T) {
	archive, pieces := split(t, "a", "d/b", "./c")
	var out bytes.Buffer
	if err := join(layer(t, "a", "d/b", "./c"), bytes.NewReader(pieces), &out); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), archive) {
		t.Errorf("%d bytes that are others than the %d of the archive", out.Len(), len(archive))
	}
}

// TestJoinHostile refuses lists that lead to other files, and such as have no end.
func TestJoinHostile(t *testing.T) {
	pack := func(s string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := io.WriteString(z, s); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, tt := range map[string]struct {
		pieces []byte
		want   string
	}{
		"dots":       {pack(`{"type":1,"name":"../outside","size":16,"payload":""}`), "no such file"},
		"a link":     {pack(`{"type":1,"name":"link","size":16,"payload":""}`), "too many levels"},
		"a link up":  {pack(`{"type":1,"name":"up/outside","size":16,"payload":""}`), "no such file"},
		"a dir":      {pack(`{"type":1,"name":".","size":16,"payload":""}`), "no regular file"},
		"changed":    {pack(`{"type":1,"name":"a","size":16,"payload":"AAAAAAAAAAA="}`), "checksum"},
		"no line":    {pack(strings.Repeat("x", maxPiece+1)), "more than"},
		"no JSON":    {pack("x\n"), "invalid character"},
		"not packed": {[]byte("plain"), "headers of the layer"},
	} {
		var out bytes.Buffer
		err := join(layer(t, "a"), bytes.NewReader(tt.pieces), &out)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if strings.Contains(out.String(), outside) {
			t.Errorf("%s: a file outside of the layer was read", name)
		}
	}
}

// FuzzJoin makes archives of what a stranger says are the pieces of one.
func FuzzJoin(f *testing.F) {
	_, pieces := split(f, "a", "d/b")
	z, err := gzip.NewReader(bytes.NewReader(pieces))
	if err != nil {
		f.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte(`{"type":1,"name":"up/outside","size":16,"payload":""}`))
	dir := layer(f, "a", "d/b")
	f.Fuzz(func(t *testing.T, b []byte) {
		var packed, out bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := w.Write(b); err != nil || w.Close() != nil {
			t.Fatal("pack")
		}
		_ = join(dir, &packed, &out) // whatever comes of it
		if strings.Contains(out.String(), outside) && !strings.Contains(string(b), outside) {
			t.Error("a file outside of the layer was read")
		}
	})
}
