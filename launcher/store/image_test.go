// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/userns"
)

// plain opens a new store for the caller's own ids, which starts no stage.
func plain(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Dir: filepath.Join(t.TempDir(), "store"), Mapping: userns.Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}.Single()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestPutImageRemoved records and names an image while others record it, too, and
// remove it. A name must never be left that leads to nothing, and no image be removed
// that somebody is naming.
func TestPutImageRemoved(t *testing.T) {
	const rounds = 300
	s := plain(t)
	id := store.DigestOf([]byte("config"))
	var work sync.WaitGroup
	for _, name := range []string{"a:1", "b:1"} {
		work.Go(func() {
			for range rounds {
				release, err := s.PutImage(t.Context(), &store.Image{ID: id})
				if err != nil {
					t.Errorf("put: %v", err)
					return
				}
				err = s.SetRef(store.Ref{Name: name, Image: id})
				if _, ierr := s.Image(id); ierr != nil {
					t.Errorf("the image was removed while it was named: %v", ierr)
				}
				release()
				if err != nil {
					t.Errorf("name: %v", err)
				}
			}
		})
	}
	removed := 0
	work.Go(func() {
		for removed < rounds/10 {
			err := s.RemoveImage(id)
			switch {
			case err == nil:
				removed++
			case !errors.Is(err, store.ErrInUse) && !errors.Is(err, store.ErrNotFound):
				t.Errorf("remove: %v", err)
				return
			case t.Context().Err() != nil:
				return
			}
			if errors.Is(err, store.ErrNotFound) {
				// So that there is something to remove when the others are done.
				if release, err := s.PutImage(t.Context(), &store.Image{ID: id}); err == nil {
					release()
				}
			}
		}
	})
	work.Wait()
	refs, err := s.Refs()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range refs {
		if _, err := s.Image(r.Image); err != nil {
			t.Errorf("the name %s leads to nothing: %v", r.Name, err)
		}
	}
}

// TestPutImageDamaged records an image whose record did not get to the disk whole.
func TestPutImageDamaged(t *testing.T) {
	s := plain(t)
	id := store.DigestOf([]byte("config"))
	if err := os.WriteFile(filepath.Join(s.Dir, "images", id.Hex()+".json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	release, err := s.PutImage(context.Background(), &store.Image{ID: id, OS: "linux"})
	if err != nil {
		t.Fatal(err)
	}
	release()
	if i, err := s.Image(id); err != nil || i.OS != "linux" {
		t.Errorf("image %+v, %v", i, err)
	}
}
