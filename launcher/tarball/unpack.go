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
	"path/filepath"
	"strings"
	"time"
)

// ErrHostile is found by errors.Is in the error for an archive with a name that leads
// out of the directory it is unpacked in, or that is made to.
var ErrHostile = errors.New("the archive is not to be trusted")

// Options say how to unpack. The zero Options keep all names.
type Options struct {
	// As is what the first word of each name is replaced by; all names must have
	// the same one then, or the first be ".", and all others go below. Empty keeps them.
	As string
	// Dir says that what is called As has to be a directory.
	Dir bool
	// SetID keeps set-user-ID, set-group-ID and sticky bits.
	SetID bool
}

// Unpack unpacks the tar archive r below root. What it had unpacked before an error
// stays.
func Unpack(r io.Reader, root *os.Root, o Options) error {
	u := unpacking{t: tar.NewReader(r), root: root, o: o}
	for {
		h, err := u.t.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := u.entry(h); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

// An unpacking is the work of one Unpack.
type unpacking struct {
	t    *tar.Reader
	root *os.Root
	o    Options
	top  string       // the first word of the names that is replaced
	dirs []*directory // whose modes and times are set last
}

// A directory was unpacked, and is to be as its header says.
type directory struct {
	name string
	h    *tar.Header
}

// entry unpacks one file.
func (u *unpacking) entry(h *tar.Header) error {
	name, err := u.name(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil // the directory itself
	}
	if u.o.Dir && name == u.o.As && h.Typeflag != tar.TypeDir {
		return fmt.Errorf("there is no directory %s/ to unpack it in: %w", name, fs.ErrNotExist)
	}
	if err := u.parents(name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.directory(name); err != nil {
			return err
		}
		u.dirs = append(u.dirs, &directory{name, h})
		return nil
	case tar.TypeReg:
		return u.regular(name, h)
	case tar.TypeSymlink:
		if err := u.makeRoom(name); err != nil {
			return err
		}
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		old, err := u.name(h.Linkname)
		if err != nil {
			return err
		}
		if err := errors.Join(u.parents(old), u.makeRoom(name)); err != nil {
			return err
		}
		return u.root.Link(old, name)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo, tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("%w: a file of type %q", ErrHostile, h.Typeflag)
}

// name is where an entry goes.
func (u *unpacking) name(s string) (string, error) {
	name := filepath.Clean(strings.TrimSuffix(s, "/"))
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("%w: the name leads out of the directory", ErrHostile)
	}
	if u.o.As == "" {
		return name, nil
	}
	top, rest, below := strings.Cut(name, "/")
	if u.top == "" {
		u.top = top
	}
	if u.top == "." { // the directory itself: all else is below it
		return path.Join(u.o.As, name), nil
	}
	if top != u.top {
		return "", fmt.Errorf("%w: it was to have %q alone", ErrHostile, u.top)
	}
	if !below {
		return u.o.As, nil
	}
	return u.o.As + "/" + rest, nil
}

// parents makes the directories above name, and refuses links in their place: a link
// that came out of the archive could lead to files that were there before.
func (u *unpacking) parents(name string) error {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if err := u.directory(name[:i]); err != nil {
			return err
		}
	}
	return nil
}

// dirMode is the mode of a directory that the archive leaves out, and of every one
// until its contents are there.
const dirMode = 0o755

// directory makes a directory that may be there.
func (u *unpacking) directory(name string) error {
	info, err := u.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return u.root.Mkdir(name, dirMode)
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: %s is a symbolic link", ErrHostile, name)
	case !info.IsDir():
		return fmt.Errorf("%s is there, and no directory", name)
	}
	return nil
}

// makeRoom removes a file that is there.
func (u *unpacking) makeRoom(name string) error {
	info, err := u.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is there, and a directory", name)
	}
	return u.root.Remove(name)
}

// regular unpacks a regular file.
func (u *unpacking) regular(name string, h *tar.Header) error {
	if err := u.makeRoom(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, u.t)
	if err == nil {
		err = f.Chmod(u.mode(h))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return u.root.Chtimes(name, time.Time{}, h.ModTime)
}

// mode is the mode that a file gets.
func (u *unpacking) mode(h *tar.Header) fs.FileMode {
	mask := fs.ModePerm
	if u.o.SetID {
		mask |= fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	}
	return h.FileInfo().Mode() & mask
}

// finish gives directories their modes and times, the deepest first.
func (u *unpacking) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d := u.dirs[i]
		// Lstat again: the archive may have had a link of that name, too.
		if err := u.directory(d.name); err != nil {
			return fmt.Errorf("unpack %q: %w", d.h.Name, err)
		}
		if err := errors.Join(u.root.Chmod(d.name, u.mode(d.h)), u.root.Chtimes(d.name, time.Time{}, d.h.ModTime)); err != nil {
			return fmt.Errorf("unpack %q: %w", d.h.Name, err)
		}
	}
	return nil
}
