// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/rand"
	"errors"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxSpare is how many spare layers there may be: as many containers begin at once now
// and then, and each is a handful of empty files.
const maxSpare = 8

// makeSpare keeps what of a writable layer is the same for every container, for the next
// one: to make and remove each directory takes a file system some tenths of a millisecond,
// and those without a journal look, for each file that is made, through all that were
// removed of late. It reports whether the layer is gone. The caller has removed the upper
// directory and what the kernel left in the other, and has the lock.
//
// What a container could write to is in no spare layer: the upper directory is made anew,
// and the other is the kernel's alone.
func (w *Writable) makeSpare() bool {
	dir := w.store.path(writableDir, w.Name)
	if !isSpare(dir) {
		return false
	}
	if names, err := w.store.list(spareDir); err != nil || len(names) >= maxSpare {
		return false
	}
	to := w.store.path(spareDir, w.Name)
	err := renameNew(dir, to)
	if errors.Is(err, os.ErrNotExist) && os.Mkdir(w.store.path(spareDir), 0o700) == nil { // an older store
		err = renameNew(dir, to)
	}
	return err == nil
}

// isSpare reports whether the directory of a writable layer has what a spare one has and
// nothing else, all of it the caller's.
func isSpare(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		switch e.Name() {
		case writableWork, writableLock, writableImage:
		default:
			return false
		}
	}
	var st unix.Stat_t
	work := filepath.Join(dir, writableWork)
	if unix.Lstat(work, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(os.Geteuid()) || st.Gid != uint32(os.Getegid()) {
		return false
	}
	left, err := os.ReadDir(work)
	return err == nil && len(left) == 0
}

// takeSpare makes a spare layer one over the image, without its upper directory. It
// returns nil if there is none. The layer gets a name that no container before it had:
// the record of one that was killed may still be there.
func (s *Store) takeSpare(image Digest) *Writable {
	names, _ := s.list(spareDir) // of an older store, none
	for _, n := range names {
		l, err := tryLock(s.path(spareDir, n, writableLock), unix.LOCK_EX, 0)
		if err != nil {
			continue // another's by now
		}
		w := s.writable(rand.Text())
		w.lock = l
		dir := s.path(spareDir, n)
		// After a failure of the machine it may be what it was before.
		if isSpare(dir) && os.WriteFile(filepath.Join(dir, writableImage), []byte(image), 0o600) == nil &&
			renameNew(dir, s.path(writableDir, w.Name)) == nil {
			return w
		}
		w.Close() // it is left to GC
	}
	return nil
}

// sweepSpare removes the spare layers.
func (s *Store) sweepSpare(remove func(name string) error) error {
	names, err := s.list(spareDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		l, err := tryLock(s.path(spareDir, n, writableLock), unix.LOCK_EX, 0)
		if errors.Is(err, ErrLocked) {
			continue
		}
		err = remove(path.Join(spareDir, n))
		if l != nil {
			l.release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
