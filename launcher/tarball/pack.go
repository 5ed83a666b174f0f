// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrSpecial is the error of a file that has nothing to copy.
var ErrSpecial = errors.New("it is a pipe, a socket or a device: want a file, a directory or a link")

// Pack writes what name names in root, with all that is below it, to w as a tar
// archive, in which it is called as. A symbolic link is packed as one. Pipes, sockets and
// devices below name are left out, and what is in file systems of the kernel's own, such as
// /proc, unless name is in one; of one that is name itself ErrSpecial is found by errors.Is.
func Pack(w io.Writer, root *os.Root, name, as string) error {
	info, err := root.Lstat(name)
	if err == nil && info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeDevice|fs.ModeIrregular) != 0 {
		return fmt.Errorf("copy %s: %w", name, ErrSpecial)
	}
	t := tar.NewWriter(w)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 { // which WalkDir would follow
		err = pack(t, root, name, as)
	} else {
		err = walk(t, root, name, as)
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}

// walk packs name and what is below it.
func walk(t *tar.Writer, root *os.Root, name, as string) error {
	whole := ofKernel(root, name)
	return fs.WalkDir(root.FS(), name, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := p[len(name):]
		if name == "." && p != "." {
			rel = "/" + p
		}
		if err := pack(t, root, p, path.Join(as, rel)); err != nil {
			return err
		}
		if d.IsDir() && !whole && ofKernel(root, p) {
			return fs.SkipDir
		}
		return nil
	})
}

// mqueueMagic is the type of a file system of message queues (MQUEUE_MAGIC, ipc/mqueue.c).
const mqueueMagic = 0x19800202

// kernels are the file systems whose files are none: they come and go, have no size, and
// are read as an order, or without an end (include/uapi/linux/magic.h).
var kernels = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
	unix.SECURITYFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.BPF_FS_MAGIC, mqueueMagic,
}

// ofKernel reports whether a directory is the top of such a file system, or in one.
func ofKernel(root *os.Root, name string) bool {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false // as the walk will find
	}
	defer f.Close()
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && slices.Contains(kernels, int64(st.Type))
}

// pack writes one file.
func pack(t *tar.Writer, root *os.Root, name, as string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	link := ""
	switch info.Mode().Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		if link, err = root.Readlink(name); err != nil {
			return err
		}
	default:
		return nil // a socket, a pipe or a device
	}
	var f *os.File
	if info.Mode().IsRegular() {
		// It may be another file by now, such as a pipe, whose open would wait.
		if f, err = root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0); err != nil {
			return err
		}
		defer f.Close()
		if info, err = f.Stat(); err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return nil
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name = as
	if info.IsDir() {
		h.Name += "/"
	}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	h.Format = tar.FormatPAX
	if err := t.WriteHeader(h); err != nil || f == nil {
		return err
	}
	return copySize(t, f, h.Size)
}

// copySize copies exactly size bytes of a file: one that grows or shrinks meanwhile
// is cut off or filled up with zeros.
func copySize(w io.Writer, f io.Reader, size int64) error {
	n, err := io.CopyN(w, f, size)
	if !errors.Is(err, io.EOF) {
		return err
	}
	_, err = io.CopyN(w, zeros{}, size-n)
	return err
}

// zeros reads as zeros without end.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
