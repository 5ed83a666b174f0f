// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy is what errors.Is finds in the error of GC while images are being pulled.
var ErrBusy = errors.New("images are being pulled")

// ErrInUse is what errors.Is finds in the error of an image that a container uses, or
// that is just being given a name.
var ErrInUse = errors.New("a container uses it, or it is being given a name")

// staleFile is the age from which a file in tmp is nobody's any more: nothing but a
// record is written there as a file.
const staleFile = 10 * time.Minute

// A Report tells what GC has removed.
type Report struct {
	Images, Layers, Writables int
	Bytes                     int64 // of the files of the layers
}

// GC removes what nobody can use: images without a name that somebody gave them,
// layers and blobs of no image, what killed processes have left, and what containers
// have written that known does not know (by the name of the Writable). What a
// container uses stays. Its error is an ErrBusy if there is a pull.
func (s *Store) GC(ctx context.Context, known func(writable string) bool) (Report, error) {
	var r Report
	l, err := tryLock(s.path(lockDir, gcLock), unix.LOCK_EX, unix.O_CREAT)
	if errors.Is(err, ErrLocked) {
		err = ErrBusy
	}
	if err != nil {
		return r, fmt.Errorf("collect garbage: %w", err)
	}
	defer l.release()
	for _, sweep := range []func() error{
		func() error { return s.sweepTmp(ctx) },
		func() error { return s.sweepWritables(ctx, known, &r) },
		func() error {
			return s.sweepSpare(func(name string) error { return s.discard(ctx, name) })
		},
		func() error { return s.sweepImages(&r) },
		func() error { return s.sweepShifted(ctx) },
		func() error { return s.sweepLayers(ctx, &r) },
		func() error { return s.sweepAll(ctx, trashDir) },
		s.sweepLocks,
	} {
		if err := sweep(); err != nil {
			return r, fmt.Errorf("collect garbage: %w", err)
		}
	}
	return r, nil
}

// RemoveImage removes an image and all of its names. Its layers are left to GC. Its
// error is an ErrInUse if a container has the image.
func (s *Store) RemoveImage(id Digest) error {
	l, err := tryLock(s.path(imageName(id)), unix.LOCK_EX, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("image %s: %w", id.Short(), ErrNotFound)
	case errors.Is(err, ErrLocked):
		return fmt.Errorf("image %s: %w", id.Short(), ErrInUse)
	case err != nil:
		return err
	}
	defer l.release()
	used, err := s.usedImages() // while nobody can begin to
	if err != nil {
		return err
	}
	if used[id] {
		return fmt.Errorf("image %s: %w", id.Short(), ErrInUse)
	}
	refs, err := s.Refs()
	if err != nil {
		return err
	}
	for _, r := range refs {
		if r.Image == id {
			if err := s.RemoveRef(r.Name); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	_ = os.Remove(s.path(imageMark(id))) // of no meaning without the image
	if err := os.Remove(s.path(imageName(id))); err != nil {
		return fmt.Errorf("remove image %s: %w", id.Short(), err)
	}
	return nil
}

// usedImages are those over which a container has written.
func (s *Store) usedImages() (map[Digest]bool, error) {
	names, err := s.list(writableDir)
	if err != nil {
		return nil, err
	}
	used := map[Digest]bool{}
	for _, n := range names {
		if b, err := s.read(path.Join(writableDir, n, writableImage), maxRecord); err == nil {
			used[Digest(b)] = true
		}
	}
	return used, nil
}

// sweepTmp removes what is left of what was being made: nobody pulls now.
func (s *Store) sweepTmp(ctx context.Context) error {
	names, err := s.list(tmpDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		st, err := os.Lstat(s.path(tmpDir, n))
		if err != nil || !st.IsDir() && time.Since(st.ModTime()) < staleFile {
			continue
		}
		if err := s.remove(ctx, path.Join(tmpDir, n)); err != nil {
			return err
		}
	}
	return nil
}

// sweepWritables removes what containers have written that are no more.
func (s *Store) sweepWritables(ctx context.Context, known func(string) bool, r *Report) error {
	names, err := s.list(writableDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if known(n) {
			continue
		}
		l, err := tryLock(s.path(writableDir, n, writableLock), unix.LOCK_EX, 0)
		st, serr := os.Lstat(s.path(writableDir, n))
		switch {
		case errors.Is(err, ErrLocked) || serr != nil:
			continue
		case errors.Is(err, os.ErrNotExist) && time.Since(st.ModTime()) < staleFile: // it is being made
			continue
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return err
		}
		err = s.discard(ctx, path.Join(writableDir, n))
		if l != nil {
			l.release()
		}
		if err != nil {
			return err
		}
		r.Writables++
	}
	return nil
}

// sweepImages removes images without a name that somebody gave them.
func (s *Store) sweepImages(r *Report) error {
	refs, err := s.Refs()
	if err != nil {
		return err
	}
	named := map[Digest]bool{}
	for _, ref := range refs {
		named[ref.Image] = named[ref.Image] || !ref.Implied
	}
	ids, err := s.ImageIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if named[id] {
			continue
		}
		switch err := s.RemoveImage(id); {
		case errors.Is(err, ErrInUse) || errors.Is(err, ErrNotFound):
		case err != nil:
			return err
		default:
			r.Images++
		}
	}
	return nil
}

// sweepShifted removes clones of images that no container has: they are made again
// when they are needed.
func (s *Store) sweepShifted(ctx context.Context) error {
	names, err := s.list(shiftDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		hex, _, _ := strings.Cut(n, "-")
		l, err := tryLock(s.path(imageName(Digest(algorithm+hex))), unix.LOCK_EX, 0)
		if errors.Is(err, ErrLocked) {
			continue
		}
		err = s.discard(ctx, path.Join(shiftDir, n))
		if l != nil {
			l.release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepLayers removes layers and blobs of no image.
func (s *Store) sweepLayers(ctx context.Context, r *Report) error {
	ids, err := s.ImageIDs()
	if err != nil {
		return err
	}
	layers, blobs := map[string]bool{}, map[string]bool{}
	for _, id := range ids {
		i, err := s.Image(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		blobs[i.ID.Hex()], blobs[i.Manifest.Hex()] = true, true
		for _, d := range i.Layers {
			layers[d.Hex()] = true // for whatever mapping
		}
	}
	names, err := s.list(layerDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if hex, _, _ := strings.Cut(n, "-"); layers[hex] {
			continue
		}
		var l Layer
		if s.readJSON(path.Join(layerDir, n, layerMeta), &l) == nil {
			r.Bytes += l.Bytes
		}
		if err := s.discard(ctx, path.Join(layerDir, n)); err != nil {
			return err
		}
		r.Layers++
	}
	if names, err = s.list(blobDir); err != nil {
		return err
	}
	for _, n := range names {
		if !blobs[n] {
			if err := os.Remove(s.path(blobDir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepAll removes all that is in a directory of the store.
func (s *Store) sweepAll(ctx context.Context, dir string) error {
	names, err := s.list(dir)
	for _, n := range names {
		if err == nil {
			err = s.remove(ctx, path.Join(dir, n))
		}
	}
	return err
}

// sweepLocks removes lock files that nobody has.
func (s *Store) sweepLocks() error {
	names, err := s.list(lockDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == gcLock {
			continue
		}
		if l, err := tryLock(s.path(lockDir, n), unix.LOCK_EX, 0); err == nil {
			l.remove()
		}
	}
	return nil
}
