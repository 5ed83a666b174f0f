// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/slipway-net/slipway/launcher/unlink"
	"golang.org/x/sys/unix"
)

// nameBatch is the number of names that are read of a directory at once.
const nameBatch = 256

// What overlayfs takes for a file whose content is that of another file in a data-only
// layer: the latter's path from the root of those layers.
const (
	MetacopyXattr = OverlayPrefix + "metacopy" // empty
	RedirectXattr = OverlayPrefix + "redirect" // the path
)

// A CloneConfig says what Clone is to do.
type CloneConfig struct {
	// Layers are directories as Layer fills them, the lowest first. They stay the
	// caller's, and so does Root, the empty directory to fill.
	Layers []*os.File
	Root   *os.File
	// Owner returns what the owner of a file is to be, in this namespace.
	Owner func(uid, gid uint32) (int, int, error)
	// CapRoot is who root is to be for file capabilities, in this namespace.
	CapRoot uint32
	// Redirect leaves the content of files where it is: the clone can be mounted only
	// over the layers as data-only ones. Without it content is copied; file systems
	// that can share blocks do that.
	Redirect bool
	// Private says that some ids of the layers will not be mapped where the clone is
	// mounted. With Redirect, content is copied of the files that not everybody may
	// read.
	Private bool
	// Copied is called with the number of bytes that were copied, now and then; nil for
	// nobody.
	Copied func(n int64)
}

// Clone makes one layer of many, in which all files have other owners. The caller must
// be root in a user namespace that has the ids of both.
func Clone(c CloneConfig) error {
	cl := &cloner{CloneConfig: c, dst: newTree(int(c.Root.Fd()), -1), dirs: map[string]dirEnd{}}
	cl.buf = [2][]byte{make([]byte, maxXattrs), make([]byte, maxXattrs)}
	if cl.Copied == nil {
		cl.Copied = func(int64) {}
	}
	defer cl.dst.close()
	for _, l := range c.Layers {
		src := newTree(int(l.Fd()), -1)
		cl.links = map[uint64]string{}
		if err := cl.directory(src, "", true); err != nil {
			return err
		}
	}
	return cl.finish()
}

// A cloner is a Clone in progress.
type cloner struct {
	CloneConfig
	dst   *tree
	dirs  map[string]dirEnd
	buf   [2][]byte         // for names and for a value of attributes, reused
	links map[uint64]string // where files of this layer with several names are, by inode
}

// A dirEnd is what a directory gets when it is full: its mode, which may hand its
// group down, and its times, which filling it changes.
type dirEnd struct {
	mode  uint32
	times [2]unix.Timespec
}

// directory lays the directory p of a layer over that of the clone, which is there.
// open says that everybody may get there.
func (c *cloner) directory(src *tree, p string, open bool) error {
	subs, open, err := c.entries(src, p, open)
	if err != nil {
		return fmt.Errorf("directory %.200q: %w", p, err)
	}
	for _, name := range subs {
		if err := c.directory(src, path.Join(p, name), open); err != nil {
			return err
		}
	}
	return nil
}

// entries clones what is in a directory of a layer, and the directory's own metadata.
// It returns the directories in it, so that no descriptor is open while they are
// cloned.
func (c *cloner) entries(src *tree, p string, open bool) (subs []string, _ bool, err error) {
	fd, err := src.read(p)
	if err != nil {
		return nil, false, err
	}
	dir := os.NewFile(uintptr(fd), p)
	defer dir.Close()
	at, err := c.dst.read(p)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, false, err
	}
	open = open && st.Mode&unix.S_IXOTH != 0
	if err := c.dirMeta(fd, at, p, &st); err != nil {
		return nil, false, err
	}
	for {
		names, err := dir.Readdirnames(nameBatch)
		for _, name := range names {
			isDir, err := c.entry(fd, at, name, path.Join(p, name), open)
			if err != nil {
				return nil, false, fmt.Errorf("%s: %w", name, err)
			}
			if isDir {
				subs = append(subs, name)
			}
		}
		if errors.Is(err, io.EOF) {
			return subs, open, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// dirMeta gives the directory at of the clone what the layer's has.
func (c *cloner) dirMeta(from, at int, p string, st *unix.Stat_t) error {
	uid, gid, err := c.Owner(st.Uid, st.Gid)
	if err != nil {
		return err
	}
	if err := unix.Fchown(at, uid, gid); err != nil {
		return fmt.Errorf("set owner %d:%d: %w", uid, gid, err)
	}
	c.dirs[p] = dirEnd{st.Mode & (permBits | specialBits), [2]unix.Timespec{st.Atim, st.Mtim}}
	return c.copyAttrs(from, at)
}

// entry clones one file of a layer, or makes the directory for one.
func (c *cloner) entry(from, at int, name, p string, open bool) (isDir bool, err error) {
	st, err := lookup(from, name)
	if err != nil || st == nil {
		return false, errors.Join(err, errors.New("it vanished"))
	}
	there, err := lookup(at, name)
	if err != nil {
		return false, err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return true, c.makeDir(from, at, name, there)
	}
	if there != nil {
		if err := unlink.Tree(at, name); err != nil {
			return false, err
		}
	}
	if first, ok := c.links[st.Ino]; ok && kind != unix.S_IFCHR {
		return false, c.link(at, name, first)
	}
	switch kind {
	case unix.S_IFCHR:
		return false, nil // a whiteout, whose work is done
	case unix.S_IFREG:
		err = c.regular(from, at, name, p, st, open)
	case unix.S_IFLNK:
		var to string
		if to, err = readLink(from, name); err == nil {
			err = unix.Symlinkat(to, at, name)
		}
	case unix.S_IFIFO:
		err = unix.Mknodat(at, name, st.Mode, 0)
	default:
		return false, fmt.Errorf("unknown kind of file %o", kind)
	}
	if err == nil && kind != unix.S_IFREG {
		err = c.meta(at, name, st)
	}
	if st.Nlink > 1 {
		c.links[st.Ino] = p
	}
	return false, err
}

// makeDir makes a directory of the clone, if it is not there. An opaque one shows
// nothing of the layers below.
func (c *cloner) makeDir(from, at int, name string, there *unix.Stat_t) error {
	fd, err := openNoFollow(from, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var b [1]byte
	n, err := unix.Fgetxattr(fd, OpaqueXattr, b[:])
	opaque := err == nil && n == 1 && b[0] == 'y'
	if there != nil && (opaque || there.Mode&unix.S_IFMT != unix.S_IFDIR) {
		if err := unlink.Tree(at, name); err != nil {
			return err
		}
		there = nil
	}
	if there != nil {
		return nil
	}
	return unix.Mkdirat(at, name, dirMode)
}

// link makes another name for the file first of the clone.
func (c *cloner) link(at int, name, first string) error {
	dir, last := split(first)
	fd, err := c.dst.read(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Linkat(fd, last, at, name, 0)
}

// meta gives a file that cannot be opened its owner and times.
func (c *cloner) meta(at int, name string, st *unix.Stat_t) error {
	uid, gid, err := c.Owner(st.Uid, st.Gid)
	if err != nil {
		return err
	}
	if err := unix.Fchownat(at, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner %d:%d: %w", uid, gid, err)
	}
	return unix.UtimesNanoAt(at, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// regular clones a regular file.
func (c *cloner) regular(from, at int, name, p string, st *unix.Stat_t, open bool) error {
	uid, gid, err := c.Owner(st.Uid, st.Gid)
	if err != nil {
		return err
	}
	src, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	fd, err := unix.Openat(at, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, st.Mode&permBits)
	if err != nil {
		return err
	}
	f := &regular{fd: fd, name: p, size: st.Size, uid: uid, gid: gid, mode: st.Mode & (permBits | specialBits), mtime: time.Unix(st.Mtim.Unix())}
	defer unix.Close(fd)
	switch {
	case st.Size == 0:
	case c.Redirect && len(p) <= maxRedirect && (!c.Private || open && st.Mode&unix.S_IROTH != 0):
		err = redirect(fd, p)
	default:
		if err = copyFile(fd, src, st.Size); err == nil {
			f.end = st.Size
			c.Copied(st.Size)
		}
	}
	if err != nil {
		return err
	}
	// The owner first: changing it takes the capabilities away.
	if _, err := f.finish(); err != nil {
		return err
	}
	return c.copyAttrs(src, fd)
}

// maxRedirect is the longest path in bytes to which a file of a clone points: with the
// other attributes it has to fit into a block (ext4). Of longer ones content is copied.
const maxRedirect = 2 << 10

// redirect makes an empty file one whose content is at p in the data-only layers.
func redirect(fd int, p string) error {
	if err := unix.Fsetxattr(fd, MetacopyXattr, nil, 0); err != nil {
		return fmt.Errorf("point to its content: %w", err)
	}
	if err := unix.Fsetxattr(fd, RedirectXattr, []byte("/"+p), 0); err != nil {
		return fmt.Errorf("point to its content: %w", err)
	}
	return nil
}

// copyFile copies content, by sharing blocks where the file system can.
func copyFile(to, from int, size int64) error {
	if unix.IoctlFileClone(to, from) == nil {
		return nil
	}
	for off := int64(0); off < size; {
		n, err := unix.CopyFileRange(from, nil, to, nil, int(min(size-off, copyStep)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("copy its content: %w", err)
		case n == 0:
			return fmt.Errorf("copy its content: %w", io.ErrUnexpectedEOF)
		}
		off += int64(n)
	}
	return nil
}

// copyStep is the size in bytes of the pieces in which content is copied.
const copyStep = 64 << 20

// copyAttrs copies extended attributes that are not overlayfs' own.
func (c *cloner) copyAttrs(from, to int) error {
	n, err := unix.Flistxattr(from, c.buf[0])
	if errors.Is(err, unix.EOPNOTSUPP) || n == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list attributes: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(c.buf[0][:n]), "\x00"), "\x00") {
		if !keeps(name) {
			continue
		}
		k, err := unix.Fgetxattr(from, name, c.buf[1])
		if err != nil {
			return fmt.Errorf("get attribute %s: %w", name, err)
		}
		value := c.buf[1][:k]
		if name == capabilityXattr {
			value = rootedAt(value, c.CapRoot)
		}
		if err := unix.Fsetxattr(to, name, value, 0); err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

// finish sets the modes and times of the directories.
func (c *cloner) finish() error {
	for p, end := range c.dirs {
		fd, err := c.dst.read(p)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // a higher layer removed it
		}
		if err != nil {
			return err
		}
		err = errors.Join(unix.Fchmod(fd, end.mode), futimens(fd, &end.times))
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("finish directory %.200q: %w", p, err)
		}
	}
	return nil
}
