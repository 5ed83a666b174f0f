// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// Names in a volume that is being filled: the first until all is copied, which begins
// anew if it was broken off, the second while what is copied moves to its place, which
// goes on then. They mean that only while the volume's mark says so.
const (
	fillingName = ".slipway-filling"
	filledName  = ".slipway-filled"
)

// markName is the file beside a volume's directory, where no container is, that is locked
// by who fills it, and says how far that is.
const markName = "filling"

// What a mark says.
const (
	markNone    = 0   // nothing is under way; all names in the volume are its own
	markCopying = 'c' // what has fillingName is ours
	markMoving  = 'm' // what has filledName is
)

// A mark is that of a volume, open; -1 for one that nobody else has, as a new tmpfs.
type mark int

// openMark opens the mark of the volume in the directory source.
func openMark(source string) mark {
	fd, err := unix.Open(path.Join(path.Dir(source), markName), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1 // of a volume that cannot be written to, either
	}
	return mark(fd)
}

// read returns what it says.
func (m mark) read() byte {
	var b [1]byte
	if n, err := unix.Pread(int(m), b[:], 0); n != len(b) || err != nil {
		return markNone
	}
	return b[0]
}

// write has it say what.
func (m mark) write(what byte) error {
	if m < 0 {
		return nil
	}
	if _, err := unix.Pwrite(int(m), []byte{what}, 0); err != nil {
		return fmt.Errorf("note that it is being filled: %w", err)
	}
	return nil
}

// lock locks it, until unlock or the end of the process. Whoever has it locked is filling
// the volume, and waits for nobody.
func (m mark) lock() error {
	for m >= 0 {
		if err := unix.Flock(int(m), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
	return nil
}

func (m mark) unlock() {
	if m >= 0 {
		_ = unix.Flock(int(m), unix.LOCK_UN)
	}
}

// maxLinked bounds the files with several names that are remembered while a volume is
// filled; others are copied apart.
const maxLinked = 1 << 16

// maxFillDepth bounds how deep the directories are that a volume is filled with: two
// descriptors are open for each.
const maxFillDepth = 200

// fillBuffer is the size in bytes of the pieces in which content is copied.
const fillBuffer = 128 << 10

// fill copies what is in the directory covered to an empty volume that is to cover it:
// so a volume has at first what the image has there. Whoever stops in the middle leaves
// a volume that the next goes on with. Others who start with the volume wait.
func fill(volume, covered int, m mark) error {
	names, err := dirNames(volume)
	if err != nil || isFilled(names, m.read()) {
		return err
	}
	if err := m.lock(); err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	defer m.unlock()
	if names, err = dirNames(volume); err != nil || isFilled(names, m.read()) {
		return err
	}
	if slices.Contains(names, filledName) {
		return settle(volume, m)
	}
	if err := likeCovered(volume, covered); err != nil {
		return err
	}
	if err := removeBelow(volume, names, maxTreeDepth); err != nil {
		return err
	}
	from, err := unix.Openat(covered, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if isEmpty(from) {
		return nil
	}
	if err := m.write(markCopying); err != nil {
		return err
	}
	err = unix.Mkdirat(volume, fillingName, 0o700)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOVERFLOW) {
		return nil // its owner has no id here: the container cannot write to it either
	}
	if err != nil {
		return err
	}
	to, err := openDirNoFollow(volume, fillingName)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	f := filler{buf: make([]byte, fillBuffer), top: to, linked: map[inode]string{}}
	if err := f.below(from, to, "", maxFillDepth); err != nil {
		return errors.Join(err, removeBelow(volume, []string{fillingName}, maxTreeDepth))
	}
	// In this order: a mark without the name is one of copying.
	if err := errors.Join(m.write(markMoving), unix.Renameat(volume, fillingName, volume, filledName)); err != nil {
		return err
	}
	return settle(volume, m)
}

// isFilled reports whether a volume with these files is left as it is, as its mark says.
func isFilled(names []string, says byte) bool {
	if says == markMoving && slices.Contains(names, filledName) {
		return false
	}
	return slices.ContainsFunc(names, func(n string) bool { return n != fillingName || says == markNone })
}

// settle moves what is copied to its place.
func settle(volume int, m mark) error {
	dir, err := openDirNoFollow(volume, filledName)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	names, err := dirNames(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := unix.Renameat2(dir, n, volume, n, unix.RENAME_NOREPLACE); err != nil {
			return fmt.Errorf("move %s to its place: %w", n, err)
		}
	}
	if err := unix.Unlinkat(volume, filledName, unix.AT_REMOVEDIR); err != nil {
		return err
	}
	return m.write(markNone)
}

// An inode tells files apart that have several names.
type inode struct{ dev, ino uint64 }

// A filler copies trees.
type filler struct {
	buf    []byte
	top    int              // the directory that is copied to
	linked map[inode]string // where files with several names are, below top
}

// below copies what is in one directory to another, which is at the path below the top. What
// is mounted there stays out.
func (f *filler) below(from, to int, at string, depth int) error {
	if depth == 0 {
		return errors.New("its directories are nested too deep")
	}
	names, err := dirNames(from)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == fillingName || n == filledName {
			continue
		}
		var st unix.Stat_t
		if err = unix.Fstatat(from, n, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			err = f.file(from, to, path.Join(at, n), &st, depth)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return nil
}

// file copies one file. Sockets and devices, which no container may make, stay out.
func (f *filler) file(from, to int, at string, st *unix.Stat_t, depth int) error {
	name := path.Base(at)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return f.dir(from, to, at, depth)
	case unix.S_IFREG:
		return f.linkOrCopy(from, to, at, st)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, buf)
		if err == nil {
			err = unix.Symlinkat(string(buf[:n]), to, name)
		}
		if err != nil {
			return err
		}
	case unix.S_IFIFO:
		if err := unix.Mknodat(to, name, st.Mode, 0); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	return unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// linkOrCopy copies a regular file, but for one that has been copied by another name.
func (f *filler) linkOrCopy(from, to int, at string, st *unix.Stat_t) error {
	name, id := path.Base(at), inode{uint64(st.Dev), st.Ino}
	if old, ok := f.linked[id]; ok {
		return f.link(old, to, name)
	}
	err := f.regular(from, to, name)
	if err == nil && st.Nlink > 1 && len(f.linked) < maxLinked {
		f.linked[id] = at
	}
	return err
}

// link gives a file that has been copied one more name. Another container may change the
// volume meanwhile: it is looked up below the top, and without following a link.
func (f *filler) link(old string, to int, name string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
	fd, err := unix.Openat2(f.top, old, &how)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Linkat(unix.AT_FDCWD, fdPath(fd), to, name, unix.AT_SYMLINK_FOLLOW)
}

func (f *filler) dir(from, to int, at string, depth int) error {
	name := path.Base(at)
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	src, err := openUncovered(from, name, unix.O_DIRECTORY)
	if src < 0 {
		return err
	}
	defer unix.Close(src)
	dst, err := openDirNoFollow(to, name)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := f.below(src, dst, at, depth-1); err != nil {
		return err
	}
	return likeFile(dst, src)
}

func (f *filler) regular(from, to int, name string) error {
	fd, err := openUncovered(from, name, unix.O_NONBLOCK)
	if fd < 0 {
		return err
	}
	src := os.NewFile(uintptr(fd), name)
	defer src.Close()
	if fd, err = unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600); err != nil {
		return err
	}
	dst := os.NewFile(uintptr(fd), name)
	defer dst.Close()
	for {
		n, err := src.Read(f.buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if _, err := dst.Write(f.buf[:n]); err != nil {
			return err
		}
	}
	return likeFile(int(dst.Fd()), int(src.Fd()))
}

// openUncovered opens a file to read it; -1 and no error if something is mounted on it.
func openUncovered(dir int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(dir, name, &how)
	switch {
	case errors.Is(err, unix.EXDEV):
		return -1, nil
	case err != nil:
		return -1, err
	}
	return fd, nil
}

// likeFile gives an open file owner, mode, capabilities and times of another.
func likeFile(to, from int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if err := unix.Fchmod(to, st.Mode&allModeBits); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	var caps [64]byte // more than any revision of them has
	if n, err := unix.Fgetxattr(from, "security.capability", caps[:]); err == nil {
		if err := unix.Fsetxattr(to, "security.capability", caps[:n], 0); err != nil {
			return fmt.Errorf("set capabilities: %w", err)
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(to), []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// allModeBits are those of chmod(2).
const allModeBits = 0o7777

// removeBelow removes the files names in the directory dir.
func removeBelow(dir int, names []string, depth int) error {
	if depth == 0 {
		return errors.New("its directories are nested too deep")
	}
	for _, n := range names {
		err := unix.Unlinkat(dir, n, 0)
		if errors.Is(err, unix.EISDIR) {
			err = removeDir(dir, n, depth)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s: %w", n, err)
		}
	}
	return nil
}

func removeDir(dir int, name string, depth int) error {
	sub, err := openDirNoFollow(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	names, err := dirNames(sub)
	if err == nil {
		err = removeBelow(sub, names, depth-1)
	}
	if err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// dirNames lists an open directory.
func dirNames(dir int) ([]string, error) {
	entries, err := readDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func openDirNoFollow(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
