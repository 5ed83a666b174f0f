// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The bits of a mode: those of open(2), and those that chown(2) takes away.
const (
	permBits    = 0o777
	specialBits = 0o7000
)

// hole is the size in bytes of the blocks of zeros that are left out of a file: that
// of a page, and of a block of most file systems.
const hole = 4096

// A regular is a file that is open to be written and has none but its name yet.
type regular struct {
	fd       int
	name     string // for errors
	size     int64
	uid, gid int
	mode     uint32
	mtime    time.Time
	attrs    []attr
	end      int64 // of what has been written
}

// regular makes a regular file, which a writer fills if it is small.
func (l *layer) regular(at int, name, p string, h *tar.Header, in io.Reader) error {
	if h.Size < 0 || h.Size > maxBytes || l.info.Bytes+h.Size > maxBytes {
		return fmt.Errorf("a size of %d bytes: more than a layer may have", h.Size)
	}
	l.info.Bytes += h.Size
	uid, gid, err := l.owner(h)
	if err != nil {
		return err
	}
	f := &regular{name: p, size: h.Size, uid: uid, gid: gid, mode: uint32(h.Mode) & (permBits | specialBits), mtime: h.ModTime}
	if l.Single && (h.Uid != 0 || h.Gid != 0) {
		// It would act as another than who it was made for.
		f.mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if f.attrs, err = l.attrs(h); err != nil {
		return err
	}
	err = l.place(at, name, p, func() (err error) {
		f.fd, err = unix.Openat(at, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, f.mode&permBits)
		return err
	})
	if err != nil {
		return err
	}
	l.record.file(p, h)
	if h.Size > smallFile {
		return l.writers.inline(f, l.content(h, in))
	}
	return l.writers.add(f, l.content(h, in))
}

// content is the reader of an entry's content, which is not part of the recipe but
// for a sparse file: its content in the archive is another than in the file.
func (l *layer) content(h *tar.Header, in io.Reader) io.Reader {
	if sparse(h) {
		return in
	}
	return &unrecorded{l.tap, in}
}

// sparse reports whether an entry is a sparse file.
func sparse(h *tar.Header) bool {
	return h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.map"] != "" || h.PAXRecords["GNU.sparse.size"] != ""
}

// owner is the owner of a file.
func (l *layer) owner(h *tar.Header) (uid, gid int, err error) {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= math.MaxUint32 || int64(h.Gid) >= math.MaxUint32 {
		return 0, 0, fmt.Errorf("%w: uid %d, gid %d", ErrOwner, h.Uid, h.Gid)
	}
	if l.Single {
		if h.Uid != 0 || h.Gid != 0 {
			l.info.Owners++
		}
		return 0, 0, nil
	}
	l.info.MaxUID = max(l.info.MaxUID, uint32(h.Uid))
	l.info.MaxGID = max(l.info.MaxGID, uint32(h.Gid))
	return h.Uid, h.Gid, nil
}

// ownerError says what an error of chown(2) means.
func ownerError(err error, uid, gid int) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: uid %d, gid %d", ErrOwner, uid, gid)
	}
	if err != nil {
		return fmt.Errorf("set owner %d:%d: %w", uid, gid, err)
	}
	return nil
}

// write writes the content data at the offset off, but leaves out blocks of zeros.
func (f *regular) write(data []byte, off int64) error {
	for len(data) > 0 {
		n := run(data, false)
		if n > 0 {
			if err := f.pwrite(data[:n], off); err != nil {
				return err
			}
		} else {
			n = run(data, true)
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

// run is the length of the blocks at the start of data that are all zeros or are not.
func run(data []byte, zeros bool) int {
	var zero [hole]byte
	n := 0
	for n < len(data) {
		b := data[n:min(n+hole, len(data))]
		if (len(b) == hole && bytes.Equal(b, zero[:])) != zeros {
			break
		}
		n += len(b)
	}
	return n
}

func (f *regular) pwrite(data []byte, off int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(f.fd, data, off)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("write %q: %w", f.name, err)
		}
		n = max(n, 0)
		data, off = data[n:], off+int64(n)
		f.end = off
	}
	return nil
}

// finish gives the file what is not its content, and returns how many attributes were
// left out. The owner goes before the mode, of which it would take special bits, and
// before the capabilities, which it would remove.
func (f *regular) finish() (left int64, err error) {
	if f.end < f.size { // it ends with a hole
		if err := unix.Ftruncate(f.fd, f.size); err != nil {
			return 0, fmt.Errorf("set the size of %q: %w", f.name, err)
		}
	}
	owned := f.uid != 0 || f.gid != 0
	if owned {
		if err := ownerError(unix.Fchown(f.fd, f.uid, f.gid), f.uid, f.gid); err != nil {
			return 0, fmt.Errorf("%q: %w", f.name, err)
		}
	}
	if left, err = setAttrs(f.fd, f.attrs); err != nil {
		return 0, fmt.Errorf("%q: %w", f.name, err)
	}
	if f.mode&specialBits != 0 {
		if err := unix.Fchmod(f.fd, f.mode); err != nil {
			return 0, fmt.Errorf("set mode of %q: %w", f.name, err)
		}
	}
	ts := times(f.mtime)
	if err := futimens(f.fd, &ts); err != nil {
		return 0, fmt.Errorf("set times of %q: %w", f.name, err)
	}
	return left, nil
}

// times are the times of access and of change.
func times(t time.Time) [2]unix.Timespec {
	ts := unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
	return [2]unix.Timespec{ts, ts}
}

// futimens is futimens(3): utimensat(2) without a path.
func futimens(fd int, ts *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
