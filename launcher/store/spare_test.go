// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/launcher/store"
)

// digest is one that no image has.
func digest(digit string) store.Digest { return store.Digest("sha256:" + strings.Repeat(digit, 64)) }

// spares lists the spare layers.
func spares(t *testing.T, s *store.Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Dir, "spare"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// writable makes a layer.
func writable(t *testing.T, s *store.Store, image store.Digest) *store.Writable {
	t.Helper()
	w, err := s.NewWritable(t.Context(), image, s.Mapping, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestSpare has a second container begin with what the first has left, of which that had
// nothing to write to.
func TestSpare(t *testing.T) {
	s := open(t)
	first := writable(t, s, digest("1"))
	if err := errors.Join(os.WriteFile(filepath.Join(first.Upper, "secret"), nil, 0o600), os.Mkdir(filepath.Join(first.Work, "work"), 0)); err != nil {
		t.Fatal(err)
	}
	if err := first.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	empty(t, s, "writable", "trash")
	left := spares(t, s)
	if len(left) != 1 {
		t.Fatalf("spare layers %q, want one", left)
	}
	before, err := os.Stat(filepath.Join(s.Dir, "spare", left[0], "work"))
	if err != nil {
		t.Fatal(err)
	}
	second := writable(t, s, digest("2"))
	after, err := os.Stat(second.Work)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the spare layer was not taken (%v)", err)
	}
	if second.Name == first.Name {
		t.Error("a second container's layer has the name of the first one's")
	}
	for _, dir := range []string{second.Upper, second.Work} {
		if got, err := os.ReadDir(dir); err != nil || len(got) > 0 {
			t.Errorf("%s holds %v (%v), want nothing", dir, got, err)
		}
	}
	if st, err := os.Stat(second.Upper); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("the layer's mode is %v (%v)", st.Mode(), err)
	}
	other := writable(t, s, digest("3"))
	if other.Name == second.Name {
		t.Error("two containers have one layer")
	}
	other.Close()
	second.Close()
	w, over, err := s.OpenWritable(second.Name)
	if err != nil || over != digest("2") {
		t.Fatalf("a layer over %s (%v), want the second's", over, err)
	}
	w.Close()
}

// TestSpareUnfit keeps nothing of a layer that is not like others, and takes no spare one
// that is not, such as after a failure of the machine.
func TestSpareUnfit(t *testing.T) {
	s := open(t)
	w := writable(t, s, digest("1"))
	if err := w.SetDriver("other"); err != nil {
		t.Fatal(err)
	}
	if err := w.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := spares(t, s); len(left) > 0 {
		t.Fatalf("spare layers %q of a driver that leaves more", left)
	}
	if err := writable(t, s, digest("1")).Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := spares(t, s)
	for _, name := range []string{"work/stale", "upper"} {
		stale := filepath.Join(s.Dir, "spare", left[0], name)
		if err := os.Mkdir(stale, 0o700); err != nil {
			t.Fatal(err)
		}
		w = writable(t, s, digest("2"))
		if got := spares(t, s); !slices.Equal(got, left) {
			t.Errorf("a spare layer with %s was taken", name)
		}
		if err := os.Remove(stale); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
}

// TestSpareBound has no more of them than there may be, and GC remove all that nobody is
// just making or taking.
func TestSpareBound(t *testing.T) {
	s := open(t)
	var all []*store.Writable
	for range store.MaxSpare + 2 {
		all = append(all, writable(t, s, digest("1")))
	}
	for _, w := range all {
		if err := w.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	empty(t, s, "writable", "trash")
	if n := len(spares(t, s)); n != store.MaxSpare {
		t.Errorf("%d spare layers, want %d", n, store.MaxSpare)
	}
	if _, err := s.GC(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	empty(t, s, "spare", "trash")
}

// TestSpareOldStore makes the directory that a store of an older slipway lacks.
func TestSpareOldStore(t *testing.T) {
	s := open(t)
	if err := os.Remove(filepath.Join(s.Dir, "spare")); err != nil {
		t.Fatal(err)
	}
	if err := writable(t, s, digest("1")).Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := spares(t, s); len(left) != 1 {
		t.Errorf("spare layers %q, want one", left)
	}
}

// TestGround has under an image's layers one with what every container has mounts at.
func TestGround(t *testing.T) {
	s := open(t)
	i := add(t, s, "file")
	for _, lacks := range []string{"", "", "etc/resolv.conf", "etc"} { // made, found, and mended after a failure of the machine
		if lacks != "" {
			if err := os.RemoveAll(filepath.Join(s.Dir, "ground", lacks)); err != nil {
				t.Fatal(err)
			}
		}
		r, err := s.Lowers(t.Context(), i, s.Mapping, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Lowers) != len(i.Layers)+1 {
			t.Fatalf("layers %q, want one more than the image's %d", r.Lowers, len(i.Layers))
		}
		ground := r.Lowers[len(r.Lowers)-1]
		for _, f := range []string{"dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"} {
			if _, err := os.Lstat(filepath.Join(ground, f)); err != nil {
				t.Error(err)
			}
		}
		empty(t, s, "tmp")
	}
}
