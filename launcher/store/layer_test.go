// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/userns"
)

// open opens a new store whose files have the caller's subordinate ids.
func open(t *testing.T) *store.Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "store"), mapping(t))
}

// openAt opens the store in dir. What is in it is removed at the end by whoever can.
func openAt(t *testing.T, dir string, m userns.Mapping) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Dir: dir, Mapping: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Reset(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// mapping is one with subordinate ids; without those the test is skipped.
func mapping(t *testing.T) userns.Mapping {
	t.Helper()
	c, err := userns.Load()
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Default()
	if errors.Is(err, userns.ErrNoSubIDs) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// archive is a tar archive of the entries; a regular file's content is its name.
func archive(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = h.Name
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// source is the layer of an archive that is not compressed.
func source(b []byte) store.Source {
	return store.Source{
		DiffID: store.DigestOf(b), Digest: store.DigestOf(b), Size: int64(len(b)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}
}

func TestAddLayer(t *testing.T) {
	s := open(t)
	b := archive(t,
		tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "etc/shadow", Typeflag: tar.TypeReg, Mode: 0o640, Gid: 42},
	)
	l, err := s.AddLayer(t.Context(), source(b))
	if err != nil {
		t.Fatal(err)
	}
	if l.MaxGID != 42 || l.Bytes != int64(len("etc/shadow")) {
		t.Errorf("layer %+v, want a greatest gid of 42 and %d bytes", l, len("etc/shadow"))
	}
	st, err := os.Stat(filepath.Join(s.LayerDir(store.DigestOf(b)), "etc/shadow"))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := s.Mapping.HostGID(42)
	if got := st.Sys().(*syscall.Stat_t).Gid; got != want || st.Mode() != 0o640 {
		t.Errorf("gid %d, mode %v, want %d and 0640", got, st.Mode(), want)
	}
	// Another time it is there already.
	src := source(b)
	src.Open = func(context.Context) (io.ReadCloser, error) {
		t.Error("a layer that is there was fetched")
		return nil, io.EOF
	}
	if _, err := s.AddLayer(t.Context(), src); err != nil {
		t.Error(err)
	}
}

// TestAddLayerVerifies adds layers that are not what they should be, and finds
// nothing of them afterwards.
func TestAddLayerVerifies(t *testing.T) {
	good := archive(t, tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644})
	other := store.DigestOf([]byte("other"))
	broken := errors.New("the line broke")
	for _, tt := range []struct {
		name string
		make func(*store.Source)
		want error
	}{
		{"another blob", func(s *store.Source) { s.Digest = other }, store.ErrDigest},
		{"another archive", func(s *store.Source) { s.DiffID = other }, store.ErrDigest},
		{"longer", func(s *store.Source) { s.Size-- }, store.ErrDigest},
		{"shorter", func(s *store.Source) { s.Size++ }, store.ErrDigest},
		{"broken off", func(s *store.Source) {
			s.Open = func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(bytes.NewReader(good[:700]), errReader{broken})), nil
			}
		}, broken},
		{"not there", func(s *store.Source) {
			s.Open = func(context.Context) (io.ReadCloser, error) { return nil, broken }
		}, broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			src := source(good)
			tt.make(&src)
			if _, err := s.AddLayer(t.Context(), src); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			empty(t, s, "layers", "tmp", "locks")
		})
	}
}

// errReader is a reader that fails.
type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// empty fails the test if there is anything in these directories of the store.
func empty(t *testing.T, s *store.Store, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		entries, err := os.ReadDir(filepath.Join(s.Dir, d))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("%s/%s is left", d, e.Name())
		}
	}
}

// errNoRoom is what a writer says whose disk is full.
var errNoRoom = errors.New("no room")

// A fullDisk takes so many bytes and no more.
type fullDisk struct{ left int }

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), d.left)
	d.left -= n
	if n < len(p) {
		return n, errNoRoom
	}
	return n, nil
}

// TestArchiveFullDisk writes the archive of a layer to where there is no room: that is
// what the error is to say, not that the stage could not go on.
func TestArchiveFullDisk(t *testing.T) {
	s := open(t)
	b := bigArchive(t)
	if _, err := s.AddLayer(t.Context(), source(b)); err != nil {
		t.Fatal(err)
	}
	if err := s.Archive(t.Context(), store.DigestOf(b), &fullDisk{len(b) / 2}); !errors.Is(err, errNoRoom) {
		t.Errorf("error %v, want %v", err, errNoRoom)
	}
}

// TestOpenOthers opens stores that another user made, or can write to.
func TestOpenOthers(t *testing.T) {
	open := func(dir string) error {
		s, err := store.Open(store.Config{Dir: dir, Mapping: userns.Mapping{}})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	dir := t.TempDir()
	mine, link := filepath.Join(dir, "mine"), filepath.Join(dir, "link")
	if err := os.Symlink(mine, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{mine, mine, link} {
		if err := open(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(mine, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := open(link); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("a store that all may write to: %v", err)
	}
	others := "/" // root's
	if os.Geteuid() == 0 {
		others = filepath.Join(dir, "others")
		if err := os.Mkdir(others, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(others, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(others); err == nil || !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("a store of another: %v", err)
	}
}
