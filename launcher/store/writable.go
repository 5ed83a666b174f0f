// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/slipway-net/slipway/launcher/userns"
	"golang.org/x/sys/unix"
)

// Names in the directory of a writable layer.
const (
	writableUpper = "upper"
	writableWork  = "work"
	writableRoot  = "root"  // of CopyRoot
	writableImage = "image" // the id of the image below
	writableLock  = "lock"  // locked by whoever uses it
	// writableDriver says by what the layer is mounted; without it, by the kernel's overlayfs
	writableDriver = "driver"
)

// maxDriver bounds the name of a driver in bytes.
const maxDriver = 64

// A Writable is the layer that a container writes to, over those of an image.
type Writable struct {
	Name        string // of the directory among those of the store's writable layers
	Upper, Work string // for overlayfs
	// Sweep, unless nil, empties Dirs where they have files of others, in place of the
	// store's stage.
	Sweep func() error
	store *Store
	lock  *lock
}

// NewWritable makes an empty layer over an image for a container with the ids m, whose
// root directory has the mode. It is the caller's until Close, or until the process
// ends.
func (s *Store) NewWritable(ctx context.Context, image Digest, m userns.Mapping, mode os.FileMode) (*Writable, error) {
	w := s.takeSpare(image)
	if w == nil {
		var err error
		if w, err = s.makeWritable(image); err != nil {
			return nil, fmt.Errorf("make a writable layer: %w", err)
		}
	}
	// The root of the container has the mode and the owner of this directory.
	err := os.Mkdir(w.Upper, 0o700)
	for _, d := range []string{w.Upper, w.Work} {
		if err == nil {
			err = os.Chmod(d, mode) // whatever the umask
		}
	}
	if err == nil {
		err = s.own(ctx, w, m)
	}
	if err != nil {
		w.abort()
		return nil, fmt.Errorf("make a writable layer: %w", err)
	}
	return w, nil
}

// makeWritable makes a layer without its upper directory.
func (s *Store) makeWritable(image Digest) (*Writable, error) {
	dir, err := os.MkdirTemp(s.path(writableDir), "")
	if err != nil {
		return nil, err
	}
	w := s.writable(filepath.Base(dir))
	if w.lock, err = tryLock(filepath.Join(dir, writableLock), unix.LOCK_EX, unix.O_CREAT); err == nil {
		err = os.WriteFile(filepath.Join(dir, writableImage), []byte(image), 0o600)
	}
	if err == nil {
		err = os.Mkdir(w.Work, 0o700)
	}
	if err != nil {
		w.abort()
		return nil, err
	}
	return w, nil
}

// abort takes a layer away that could not be made. What is left is found by GC.
func (w *Writable) abort() {
	w.Close()
	_ = os.RemoveAll(w.store.path(writableDir, w.Name))
}

// own gives the layer to root under the mapping m, if that does not have the caller's
// own ids: else the container's root can take it.
func (s *Store) own(ctx context.Context, w *Writable, m userns.Mapping) error {
	me, _ := s.Mapping.HostUID(0)
	mine, _ := s.Mapping.HostGID(0)
	_, uok := inside(m.UIDs, me)
	_, gok := inside(m.GIDs, mine)
	if uok && gok {
		return nil
	}
	a := shiftArgs{Store: s.Mapping, Target: m}
	uid, gid, err := a.owner(0, 0)
	if err != nil || uid == 0 && gid == 0 {
		return err
	}
	args := ownArgs{UID: uid, GID: gid}
	for _, d := range []string{writableUpper, writableWork} {
		args.Names = append(args.Names, path.Join(writableDir, w.Name, d))
	}
	return s.ns.call(ctx, opOwn, args, nil)
}

func (s *Store) writable(name string) *Writable {
	dir := s.path(writableDir, name)
	return &Writable{Name: name, Upper: filepath.Join(dir, writableUpper), Work: filepath.Join(dir, writableWork), store: s}
}

// OpenWritable takes a layer that NewWritable made and nobody uses, and tells which
// image it is over. Its error is an ErrNotFound if it is gone.
func (s *Store) OpenWritable(name string) (*Writable, Digest, error) {
	w := s.writable(name)
	l, err := tryLock(s.path(writableDir, name, writableLock), unix.LOCK_EX, 0)
	if errors.Is(err, os.ErrNotExist) {
		err = ErrNotFound
	}
	if errors.Is(err, ErrLocked) {
		return nil, "", fmt.Errorf("what it has written is %w, perhaps by slipway cp: wait for that", err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("writable layer %s: %w", name, err)
	}
	w.lock = l
	b, err := s.read(filepath.Join(writableDir, name, writableImage), hexSize+int64(len(algorithm)))
	if err == nil {
		var d Digest
		if d, err = ParseDigest(string(b)); err == nil {
			return w, d, nil
		}
	}
	w.Close()
	return nil, "", fmt.Errorf("writable layer %s: %w", name, err)
}

// SetDriver notes by what the layer is mounted: another may not understand what it left
// there.
func (w *Writable) SetDriver(name string) error {
	return w.store.write(filepath.Join(writableDir, w.Name, writableDriver), []byte(name))
}

// Driver returns what SetDriver noted; empty for nothing.
func (w *Writable) Driver() (string, error) {
	b, err := w.store.read(filepath.Join(writableDir, w.Name, writableDriver), maxDriver)
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return string(b), err
}

// Close gives the layer back; it stays.
func (w *Writable) Close() {
	if w.lock != nil {
		w.lock.release()
		w.lock = nil
	}
}

// Remove removes the layer. What is the caller's own goes at once; only for files of
// others Sweep or the store's stage is needed.
func (w *Writable) Remove(ctx context.Context) error {
	defer w.Close()
	dir := w.store.path(writableDir, w.Name)
	// Side by side: a file system that tells its disk of what is free (mount -o discard)
	// waits for the disk at each directory.
	var work sync.WaitGroup
	work.Go(w.emptyWork)
	_ = os.RemoveAll(w.Upper)
	work.Wait()
	if w.makeSpare() || os.RemoveAll(dir) == nil {
		return nil
	}
	if w.Sweep != nil {
		if err := errors.Join(w.Sweep(), os.RemoveAll(dir)); err != nil {
			return fmt.Errorf("remove what the container has written: %w", err)
		}
		return nil
	}
	if err := w.store.discard(ctx, filepath.Join(writableDir, w.Name)); err != nil {
		return fmt.Errorf("remove what the container has written: %w", err)
	}
	return nil
}

// Dirs are the directories with files of the container's.
func (w *Writable) Dirs() []string {
	dirs := []string{w.Upper, w.Work}
	if root := w.store.path(writableDir, w.Name, writableRoot, layerFiles); isDir(root) {
		dirs = append(dirs, root)
	}
	return dirs
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// Dir is the directory that all of the layer is in.
func (w *Writable) Dir() string { return w.store.path(writableDir, w.Name) }

// emptyWork removes what the kernel has left in the work directory: a directory, and in
// it, of a volatile overlay, two more and a file (ovl_create_volatile_dirty of
// fs/overlayfs/super.c). Not even their owner may read them.
func (w *Writable) emptyWork() {
	dirs := [...]string{writableWork, "incompat", "volatile"}
	at := w.Work
	for i, d := range dirs {
		at = filepath.Join(at, d)
		dirs[i] = at
		_ = unix.Chmod(at, 0o700) // there are none of others
	}
	_ = unix.Unlink(filepath.Join(at, "dirty"))
	for _, d := range slices.Backward(dirs[:]) {
		_ = unix.Rmdir(d)
	}
	_ = os.RemoveAll(dirs[0]) // most often gone
}
