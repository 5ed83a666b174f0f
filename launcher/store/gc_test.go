// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/userns"
)

// add adds an image of one file, and names it.
func add(t *testing.T, s *store.Store, file string, refs ...store.Ref) *store.Image {
	t.Helper()
	b := archive(t, tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: 0o644, Uid: 7})
	l, err := s.AddLayer(t.Context(), source(b))
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.PutBlob([]byte("configuration of " + file))
	if err != nil {
		t.Fatal(err)
	}
	i := &store.Image{ID: id, Layers: []store.Digest{store.Digest(l.DiffID)}, MaxUID: l.MaxUID}
	release, err := s.PutImage(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	release()
	for _, r := range refs {
		r.Image = id
		if err := s.SetRef(r); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

// known knows no container.
func known(string) bool { return false }

func TestGC(t *testing.T) {
	s := open(t)
	named := add(t, s, "named", store.Ref{Name: "a:1"})
	digest := add(t, s, "by digest", store.Ref{Name: "b@sha256:x"})
	add(t, s, "unnamed", store.Ref{Name: "c@sha256:x", Implied: true})
	held := add(t, s, "held")
	_, release, err := s.Hold(held.ID)
	if err != nil {
		t.Fatal(err)
	}
	written := add(t, s, "written over")
	w, err := s.NewWritable(t.Context(), written.ID, s.Mapping, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tmp/left", "trash/left/deep"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.GC(t.Context(), known)
	if err != nil {
		t.Fatal(err)
	}
	if r.Images != 1 || r.Layers != 1 || r.Writables != 0 {
		t.Errorf("removed %+v, want one image and its layer", r)
	}
	for _, i := range []*store.Image{named, digest, held, written} {
		if err := s.Check(t.Context(), i); err != nil {
			t.Errorf("an image that is in use: %v", err)
		}
	}
	empty(t, s, "tmp", "trash")
	// What was in use is not any more.
	release()
	w.Close()
	if r, err = s.GC(t.Context(), known); err != nil || r.Writables != 1 || r.Images != 2 {
		t.Errorf("removed %+v, %v, want two images and a writable layer", r, err)
	}
	for _, i := range []*store.Image{named, digest} {
		if err := s.RemoveImage(i.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err = s.GC(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	empty(t, s, "images", "refs", "blobs", "layers", "writable", "shifted", "tmp", "trash")
}

func TestGCWhilePulling(t *testing.T) {
	s := open(t)
	end, err := s.Pulling(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context(), known); !errors.Is(err, store.ErrBusy) {
		t.Errorf("error %v, want that there is a pull", err)
	}
	end()
	if _, err := s.GC(t.Context(), known); err != nil {
		t.Error(err)
	}
}

func TestRemoveImageInUse(t *testing.T) {
	s := open(t)
	i := add(t, s, "file", store.Ref{Name: "a:1"})
	_, release, err := s.Hold(i.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveImage(i.ID); !errors.Is(err, store.ErrInUse) {
		t.Errorf("error %v, want that it is in use", err)
	}
	if _, err := s.Ref("a:1"); err != nil {
		t.Errorf("an image in use lost its name: %v", err)
	}
	release()
	if err := s.RemoveImage(i.ID); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Hold(i.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("error %v, want not found", err)
	}
}

// TestWritable removes what another owner has written.
func TestWritable(t *testing.T) {
	s := open(t)
	i := add(t, s, "file")
	w, err := s.NewWritable(t.Context(), i.ID, s.Mapping, 0o1777|os.ModeSticky)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(w.Upper); err != nil || st.Mode().Perm() != 0o777 || st.Mode()&os.ModeSticky == 0 {
		t.Errorf("the layer's mode is %v (%v)", st.Mode(), err)
	}
	if _, _, err := s.OpenWritable(w.Name); err == nil {
		t.Error("a layer in use was given to another")
	}
	w.Close()
	w, over, err := s.OpenWritable(w.Name)
	if err != nil || over != i.ID {
		t.Fatalf("a layer over %s (%v), want %s", over, err, i.ID)
	}
	if err := w.Remove(context.Background()); err != nil {
		t.Error(err)
	}
	empty(t, s, "writable", "trash")
}

// TestOldStore uses a store that was made when there were no clones for other ids: it
// lacks their directory.
func TestOldStore(t *testing.T) {
	s := open(t)
	i := add(t, s, "old", store.Ref{Name: "a:1"})
	if err := os.Remove(filepath.Join(s.Dir, "shifted")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context(), known); err != nil {
		t.Errorf("collect garbage: %v", err)
	}
	m := userns.Mapping{UIDs: append([]userns.Range{}, s.Mapping.UIDs...), GIDs: append([]userns.Range{}, s.Mapping.GIDs...)}
	m.UIDs[0].Outside, m.UIDs[1].Outside, m.UIDs[1].Size = m.UIDs[1].Outside, m.UIDs[1].Outside+1, m.UIDs[1].Size-1
	r, err := s.Lowers(t.Context(), i, m, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(r.Lowers[0], "old")); err != nil {
		t.Errorf("the clone: %v", err)
	}
}
