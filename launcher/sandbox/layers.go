// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// maxLayers bounds the number of mounts the root consists of. Below a directory
// that is split and would exceed it, entries are left out.
const maxLayers = 512

// modeBits are the bits of a directory's mode that its copy has.
const modeBits = 0o1777

// A layering spreads the directories of a lower root over a new root, each under
// a throw-away layer of its own.
type layering struct {
	s      *setup
	root   place           // the new root
	skip   map[string]bool // paths that something else will be put at
	split  map[string]bool // paths with a mount below them
	mounts int
}

// spread fills the directory at of the new root from the lower directory.
func (l *layering) spread(lower int, at string) error {
	entries, err := readDir(lower)
	if err != nil {
		return fmt.Errorf("read directory %s: %w", at, err)
	}
	for _, e := range entries {
		p := path.Join(at, e.Name())
		if l.skip[p] {
			continue
		}
		switch e.Type() {
		case fs.ModeDir:
			err = l.directory(lower, e.Name(), p)
		case fs.ModeSymlink:
			err = l.symlink(lower, e.Name(), p)
		case 0:
			err = l.regular(lower, e.Name(), p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// directory puts the lower directory name at p: an overlay, or, where it cannot be
// read or has no entry, a directory of the container's own, or, where a mount lies
// below it, its entries one by one.
func (l *layering) directory(lower int, name, p string) error {
	dir, err := unix.Openat(lower, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return l.root.join(p).mkdir() // not ours to read, or gone meanwhile
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return fmt.Errorf("look at %s: %w", p, err)
	}
	if err := l.root.join(p).mkdir(); err != nil {
		return err
	}
	if l.mounts >= maxLayers {
		return nil
	}
	if !l.split[p] && !isEmpty(dir) {
		err = l.overlay(dir, p, st.Mode&modeBits)
		if err == nil {
			l.mounts++
			return nil
		}
		// EINVAL: a locked mount below that has just come, or a file system that
		// cannot be a layer.
		if !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("lay %s over the host's: %w", p, err)
		}
	}
	if err := chmodAt(l.root.join(p), st.Mode&modeBits); err != nil {
		return err
	}
	return l.spread(dir, p)
}

// overlay mounts the overlay of p.
func (l *layering) overlay(lower int, p string, mode uint32) error {
	upper, work, err := l.s.throwAway(mode)
	if err != nil {
		return err
	}
	defer unix.Close(upper)
	defer unix.Close(work)
	return l.s.mt.overlay(l.root.join(p), layerSet{lowers: []int{lower}, upper: upper, work: work, options: []string{userXattr}})
}

// symlink copies a symbolic link.
func (l *layering) symlink(lower int, name, p string) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(lower, name, buf)
	if err != nil {
		return fmt.Errorf("read symbolic link %s: %w", p, err)
	}
	return l.root.join(p).symlink(string(buf[:n]))
}

// regular puts a regular file at p, read-only.
func (l *layering) regular(lower int, name, p string) error {
	if l.mounts >= maxLayers {
		return nil
	}
	f, err := unix.Openat(lower, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // gone meanwhile
	}
	defer unix.Close(f)
	if err := l.root.join(p).create("", 0o644); err != nil {
		return err
	}
	if err := l.s.mt.bind(f, l.root.join(p), unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV, false); err != nil {
		return fmt.Errorf("show %s: %w", p, err)
	}
	l.mounts++
	return nil
}

// isEmpty reports whether an open directory has no entry.
func isEmpty(dir int) bool {
	var buf [direntBuf]byte
	n, err := unix.Getdents(dir, buf[:])
	if err != nil {
		return false
	}
	_, entries, _ := unix.ParseDirent(buf[:n], 1, nil)
	return entries == 0
}

// direntBuf is the size in bytes of a buffer with room for ".", ".." and one more
// directory entry (NAME_MAX plus the header of linux_dirent64).
const direntBuf = 512

// readDir lists an open directory, which stays open and where it was.
func readDir(dir int) ([]fs.DirEntry, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// Where the file system does not tell types, ReadDir looks entries up below
	// this name.
	f := os.NewFile(uintptr(fd), fdPath(fd))
	defer f.Close()
	return f.ReadDir(-1)
}

func chmodAt(p place, mode uint32) error {
	fd, err := p.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("set mode of %s: %w", p.path, err)
	}
	return nil
}
