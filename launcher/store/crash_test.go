// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/userns"
)

// roleAdd is the test binary's argument for a process that adds a layer and is killed
// while it does; the words after it are the store's directory and the number of bytes
// after which nothing more comes.
const roleAdd = "store-test-add"

// bigArchive is a layer of many files and some megabytes.
func bigArchive(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 300 {
		content := strings.Repeat(fmt.Sprintf("content of file %d\n", i), i*4+1)
		h := &tar.Header{Name: fmt.Sprintf("dir%d/file%d", i%7, i), Typeflag: tar.TypeReg, Mode: 0o644, Uid: i, Gid: 2 * i, Size: int64(len(content))}
		if err := w.WriteHeader(h); err != nil {
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

// addForever adds the layer on standard input as far as it comes, says so, and waits
// to be killed.
func addForever(args []string) int {
	c, err := userns.Load()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	m, err := c.Default()
	if err != nil {
		m = c.Single()
	}
	s, err := store.Open(store.Config{Dir: args[0], Mapping: m})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx := context.Background()
	if _, err := s.Pulling(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, err = s.AddLayer(ctx, store.Source{DiffID: store.Digest(args[1]), Size: -1, Open: func(context.Context) (io.ReadCloser, error) { return os.Stdin, nil }})
	fmt.Println(err)
	return 1
}

// TestAddLayerKilled kills a process at many points of a layer, and has another go on.
func TestAddLayerKilled(t *testing.T) {
	m := mapping(t)
	b := bigArchive(t)
	dir := filepath.Join(t.TempDir(), "store")
	s := openAt(t, dir, m)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const points = 12
	for i := range points {
		n := len(b) * i / points
		cmd := exec.Command(self, roleAdd, dir, string(store.DigestOf(b)))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// When all is written, most of it is being unpacked.
		if _, err := in.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // "signal: killed"
		if _, err := s.Layer(store.DigestOf(b)); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("killed after %d of %d bytes: layer: %v, want not found", n, len(b), err)
		}
	}
	if _, err := s.AddLayer(t.Context(), source(b)); err != nil {
		t.Fatal(err)
	}
	empty(t, s, "tmp", "trash")
	var out bytes.Buffer
	if err := s.Archive(t.Context(), store.DigestOf(b), &out); err != nil || !bytes.Equal(out.Bytes(), b) {
		t.Errorf("the layer after %d kills is not what it should be (%v)", points, err)
	}
}

// TestAddLayerOnce adds the same layer from several stores at once: it is fetched once.
func TestAddLayerOnce(t *testing.T) {
	m := mapping(t)
	dir := filepath.Join(t.TempDir(), "store")
	b := bigArchive(t)
	var fetched atomic.Int64
	var work sync.WaitGroup
	for range 4 {
		s := openAt(t, dir, m)
		src := source(b)
		open := src.Open
		src.Open = func(ctx context.Context) (io.ReadCloser, error) {
			fetched.Add(1)
			return open(ctx)
		}
		for range 2 {
			work.Go(func() {
				if _, err := s.AddLayer(t.Context(), src); err != nil {
					t.Error(err)
				}
			})
		}
	}
	work.Wait()
	if fetched.Load() != 1 {
		t.Errorf("the layer was fetched %d times, want once", fetched.Load())
	}
}

// TestAddLayerCanceled stops in the middle, and finds nothing left.
func TestAddLayerCanceled(t *testing.T) {
	s := open(t)
	b := bigArchive(t)
	ctx, cancel := context.WithCancel(t.Context())
	src := source(b)
	src.Open = func(context.Context) (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			_, _ = w.Write(b[:len(b)/2])
			cancel() // and the rest never comes
		}()
		return r, nil
	}
	if _, err := s.AddLayer(ctx, src); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was canceled", err)
	}
	empty(t, s, "layers", "tmp", "trash", "locks")
}

// TestStageKilled kills the process that unpacks a layer: nothing of that remains, and
// the next try has another.
func TestStageKilled(t *testing.T) {
	s := open(t)
	b := bigArchive(t)
	src := source(b)
	src.Open = func(context.Context) (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			_, _ = w.Write(b[:len(b)/2])
			s.KillStage()
			_, err := w.Write(b[len(b)/2:])
			w.CloseWithError(err)
		}()
		return r, nil
	}
	if _, err := s.AddLayer(t.Context(), src); err == nil {
		t.Error("a layer was added without anybody to unpack it")
	}
	empty(t, s, "layers", "tmp", "trash", "locks")
	if _, err := s.AddLayer(t.Context(), source(b)); err != nil {
		t.Error(err)
	}
}

// TestPowerFailure makes layers those of another boot: those that are whole are used,
// others fetched again.
func TestPowerFailure(t *testing.T) {
	s := open(t)
	b := bigArchive(t)
	d := store.DigestOf(b)
	fetched := 0
	src := source(b)
	first := src.Open
	src.Open = func(ctx context.Context) (io.ReadCloser, error) {
		fetched++
		return first(ctx)
	}
	add := func() {
		t.Helper()
		if _, err := s.AddLayer(t.Context(), src); err != nil {
			t.Fatal(err)
		}
	}
	img := &store.Image{ID: store.DigestOf([]byte("config")), Layers: []store.Digest{d}}
	add()
	release, err := s.PutImage(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	release()
	s.SetBoot("another")
	if err := s.Check(t.Context(), img); err != nil {
		t.Errorf("a whole image: %v", err)
	}
	add()
	if fetched != 1 {
		t.Errorf("a whole layer was fetched again")
	}
	s.SetBoot("a third") // it is marked now, and not read again
	file := filepath.Join(s.LayerDir(d), "dir1", "file1")
	if err := os.Truncate(file, 0); err != nil && !errors.Is(err, os.ErrPermission) {
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), img); err != nil {
		t.Errorf("a marked image: %v", err)
	}
	if err := s.Unmark(img); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(s.LayerDir(d), "dir0", "file0"), 1); err != nil { // the caller's own
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), img); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a layer that is not whole: %v, want not found", err)
	}
	add()
	if fetched != 2 {
		t.Errorf("the layer was fetched %d times, want twice", fetched)
	}
	if err := s.Check(t.Context(), img); err != nil {
		t.Errorf("an image with a new layer: %v", err)
	}
}
