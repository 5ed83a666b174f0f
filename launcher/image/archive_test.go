// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
	"golang.org/x/sys/unix"
)

// A dockerImage is an image in a manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerArchive is an archive of Docker's kind with a configuration c and the layer
// content, in a file. Its list is what images says.
func dockerArchive(t *testing.T, c map[string]any, content []byte, images ...dockerImage) *os.File {
	t.Helper()
	all := map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": []store.Digest{store.DigestOf(content)}}}
	for k, v := range c {
		all[k] = v
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "archive"))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	put := func(name string, b []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(b))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for name, v := range map[string]any{"config.json": all, "manifest.json": images} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		put(name, b.Bytes())
	}
	put("layer.tar", content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

// load adds the images of an archive to s as `slipway load` does.
func load(t *testing.T, s *store.Store, f *os.File) ([]*store.Image, error) {
	t.Helper()
	l, err := image.OpenArchive(f, t.TempDir())
	if err != nil {
		return nil, err
	}
	defer l.Close()
	found, err := l.Images(t.Context(), "", image.Platform{})
	if err != nil {
		return nil, err
	}
	var added []*store.Image
	for _, img := range found {
		i, err := image.Add(t.Context(), s, img, nil)
		if err != nil {
			return added, err
		}
		added = append(added, i)
	}
	return added, nil
}

func one(names ...string) dockerImage {
	return dockerImage{Config: "config.json", RepoTags: names, Layers: []string{"layer.tar"}}
}

// emptyTar is an archive without a file.
var emptyTar = make([]byte, 1024)

// TestLoadHugeRecord loads an image whose configuration is within the limits and whose
// record in the store would not be, since JSON escapes what is in it.
func TestLoadHugeRecord(t *testing.T) {
	s := open(t)
	c := map[string]any{"config": map[string]any{"Labels": map[string]string{"x": strings.Repeat("<", 1<<20)}}}
	if _, err := load(t, s, dockerArchive(t, c, emptyTar, one("app"))); err == nil {
		t.Error("it was loaded")
	}
	nothing(t, s, "images", "refs", "tmp")
	if _, err := s.GC(t.Context(), func(string) bool { return false }); err != nil {
		t.Errorf("the store cannot be used any more: %v", err)
	}
}

// TestLoadCreated loads an image whose time of creation is beyond what JSON can have
// once it is in UTC.
func TestLoadCreated(t *testing.T) {
	for created, want := range map[string]int{"9999-12-31T23:59:59-12:00": 1, "0000-01-01T00:00:00+12:00": 1, "2026-01-02T03:04:05Z": 2026} {
		s := open(t)
		added, err := load(t, s, dockerArchive(t, map[string]any{"created": created}, emptyTar, one("app")))
		if err != nil {
			t.Fatalf("%s: %v", created, err)
		}
		i, err := s.Image(added[0].ID)
		if err != nil || i.Created.Year() != want || (want == 1) != i.Created.Equal(time.Time{}) {
			t.Errorf("%s is taken for %v (%v)", created, i.Created, err)
		}
	}
}

// TestLoadMany loads archives whose lists have one image so often, or so many names of
// it, that they would take all memory or fill the store.
func TestLoadMany(t *testing.T) {
	large := map[string]any{"author": strings.Repeat("x", 3<<20)}
	var names []string
	for n := range 5000 {
		names = append(names, fmt.Sprintf("app:%d", n))
	}
	for name, f := range map[string]*os.File{
		"images": dockerArchive(t, large, emptyTar, slices.Repeat([]dockerImage{one()}, 10000)...),
		"names":  dockerArchive(t, nil, emptyTar, one(names...)),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			_, err := load(t, s, f)
			if !errors.Is(err, image.ErrImage) || !strings.Contains(err.Error(), "more than") {
				t.Errorf("error %v, want one of too many %s", err, name)
			}
			nothing(t, s, "images", "refs", "layers", "tmp")
		})
	}
}

// TestLayoutPipe opens a layout whose files are named pipes. If that waits for a writer,
// the test does not end.
func TestLayoutPipe(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "index.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := image.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Images(t.Context(), "", image.Platform{}); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("error %v, want one of a file that is none", err)
	}
}
