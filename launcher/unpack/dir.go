// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// dirMeta is what a directory gets when it is full: its mode, which may forbid to
// fill it or hand its group down, and its time, which filling it changes.
type dirMeta struct {
	ino      uint64
	uid, gid int
	mode     uint32
	mtime    time.Time
}

// directory makes the directory p, which is name in at, or takes the one that is
// there. The root of the layer is at itself, without a name.
func (l *layer) directory(at int, name, p string, h *tar.Header) error {
	uid, gid, err := l.owner(h)
	if err != nil {
		return err
	}
	fd, err := l.makeDir(at, name, p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	attrs, err := l.attrs(h)
	if err != nil {
		return err
	}
	left, err := setAttrs(fd, attrs)
	if err != nil {
		return err
	}
	l.info.Xattrs += left
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if _, ok := l.dirs[p]; !ok {
		if l.dirNames += len(p); l.dirNames > maxDirNames {
			return fmt.Errorf("more than %d MiB of names of directories", maxDirNames>>20)
		}
	}
	l.dirs[p] = dirMeta{st.Ino, uid, gid, uint32(h.Mode) & (permBits | specialBits), h.ModTime}
	return nil
}

// makeDir makes a directory, or takes the one that is there, and opens it.
func (l *layer) makeDir(at int, name, p string) (int, error) {
	if name == "" {
		return openNoFollow(at, ".")
	}
	opaque := false
	err := unix.Mkdirat(at, name, dirMode)
	if errors.Is(err, unix.EEXIST) {
		var st *unix.Stat_t
		if st, err = lookup(at, name); err == nil && st != nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			opaque = st.Mode&unix.S_IFMT == unix.S_IFCHR // a whiteout: nothing of a lower one
			if err = l.replace(at, name, p); err == nil {
				err = unix.Mkdirat(at, name, dirMode)
			}
		}
	}
	if err != nil {
		return -1, err
	}
	fd, err := openNoFollow(at, name)
	if err != nil {
		return -1, err
	}
	if opaque {
		if err := setOpaque(fd); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// finishDirs sets what is not yet set of the directories. One that was replaced since
// is left alone.
func (l *layer) finishDirs() error {
	for p, m := range l.dirs {
		if err := l.finishDir(p, m); err != nil {
			return fmt.Errorf("finish directory %.200q: %w", p, err)
		}
	}
	return nil
}

func (l *layer) finishDir(p string, m dirMeta) error {
	fd, err := l.tree.read(p)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Ino != m.ino {
		return nil
	}
	if m.uid != 0 || m.gid != 0 {
		if err := ownerError(unix.Fchown(fd, m.uid, m.gid), m.uid, m.gid); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, m.mode); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	ts := times(m.mtime)
	if err := futimens(fd, &ts); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// openNoFollow opens the directory name of at to read it.
func openNoFollow(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
