// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrOwner is what errors.Is finds in the error of a layer with a file whose owner
// has no id in the user namespace.
var ErrOwner = errors.New("its owner is none of the mapped ids")

// A Config says what Layer is to do. The zero values of its optional fields are
// usable.
type Config struct {
	// Root is the empty directory to fill; it stays the caller's.
	Root *os.File
	// Recipe receives what Rebuild needs to make the archive again, besides the
	// files themselves; nil for none.
	Recipe io.Writer
	// Aside is a directory on the same file system for files that are in the
	// archive but not in the layer, since a later entry replaced them: Rebuild needs
	// them. It is needed if there is a Recipe, and stays the caller's.
	Aside *os.File
	// Single gives every file to the caller, who has no other ids.
	Single bool
	// Writers is the number of files that are written at the same time; zero is one.
	Writers int
}

// Info tells what a layer is.
type Info struct {
	DiffID  string   `json:"diffID"`  // the digest of the archive, as "sha256:HEX"
	Size    int64    `json:"size"`    // of the archive, in bytes
	Bytes   int64    `json:"bytes"`   // of the regular files
	Entries int64    `json:"entries"` // of the archive
	MaxUID  uint32   `json:"maxUID"`  // the greatest owner
	MaxGID  uint32   `json:"maxGID"`
	Aside   []string `json:"aside,omitempty"` // paths of what is in Config.Aside, in order; with a slash behind a directory's

	Devices int64 `json:"devices,omitempty"` // device nodes left out
	Xattrs  int64 `json:"xattrs,omitempty"`  // extended attributes left out
	Owners  int64 `json:"owners,omitempty"`  // owners left out, in mode Single
}

// Layer unpacks the archive in, which may be compressed, as a layer of an overlay
// that is mounted with userxattr. Of several errors the first is returned; what is
// unpacked until then is in Root, for the caller to remove. The caller must be root
// in a user namespace, or have Config.Single set.
func Layer(in io.Reader, c Config) (*Info, error) {
	s, err := newStream(in)
	if err != nil {
		return nil, err
	}
	defer s.close()
	aside := -1
	if c.Aside != nil {
		aside = int(c.Aside.Fd())
	}
	l := &layer{
		Config: c, stream: s, tree: newTree(int(c.Root.Fd()), aside), writers: newWriters(max(c.Writers, 1)),
		dirs: map[string]dirMeta{}, record: newRecorder(c.Recipe),
	}
	l.tap = &recordedReader{r: s, record: l.record}
	err = l.unpack()
	l.tree.close()
	if werr := l.writers.wait(); err == nil {
		err = werr
	}
	if rerr := l.record.close(); err == nil {
		err = rerr
	}
	if err != nil {
		return nil, err
	}
	if err := l.finishDirs(); err != nil {
		return nil, err
	}
	l.info.DiffID, l.info.Size, l.info.Aside = s.digest(), s.size, l.tree.set
	l.info.Xattrs += l.writers.left
	return &l.info, nil
}

// A layer is one that is being unpacked, by one goroutine and its writers.
type layer struct {
	Config
	stream   *stream
	tap      *recordedReader
	record   *recorder
	tree     *tree
	writers  *writers
	dirs     map[string]dirMeta
	dirNames int // bytes of the names in dirs
	info     Info
}

// unpack unpacks entry by entry, and reads to the end of the archive.
func (l *layer) unpack() error {
	tr := tar.NewReader(l.tap)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if l.info.Entries++; l.info.Entries > maxEntries {
			return fmt.Errorf("more than %d files", maxEntries)
		}
		if err := l.entry(h, tr); err != nil {
			return fmt.Errorf("unpack %.200q: %w", h.Name, err)
		}
		if err := l.writers.failed(); err != nil {
			return err
		}
	}
	// The digest is that of all of it, with the padding.
	if _, err := io.Copy(io.Discard, l.tap); err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	return nil
}

// entry unpacks one.
func (l *layer) entry(h *tar.Header, tr *tar.Reader) error {
	p, err := clean(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	dir, name := split(p)
	if p == "" {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root of the layer is no directory")
		}
		return l.directory(l.tree.root, "", p, h)
	}
	at, err := l.tree.dir(dir)
	if err != nil {
		return err
	}
	if strings.HasPrefix(name, whiteoutPrefix) {
		return l.whiteout(at, name)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return l.directory(at, name, p, h)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return l.regular(at, name, p, h, tr)
	case tar.TypeLink:
		return l.link(at, name, p, h)
	case tar.TypeSymlink:
		return l.symlink(at, name, p, h)
	case tar.TypeFifo:
		return l.fifo(at, name, p, h)
	case tar.TypeChar, tar.TypeBlock:
		// No user namespace may make one, but for 0:0, which would be a whiteout.
		l.info.Devices++
		return nil
	}
	return fmt.Errorf("unknown kind of file %q", h.Typeflag)
}

// link makes a hard link to a file of this layer. A link to a whiteout would be one.
func (l *layer) link(at int, name, p string, h *tar.Header) error {
	target, err := clean(h.Linkname)
	if err != nil {
		return fmt.Errorf("link to %w", err)
	}
	dir, targetName := split(target)
	from, err := l.tree.dir(dir)
	if err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	st, err := lookup(from, targetName)
	if err == nil && st == nil {
		err = unix.ENOENT
	}
	if err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFDIR || kind == unix.S_IFCHR {
		return fmt.Errorf("link to %q, which is no file", h.Linkname)
	}
	l.record.file(p, h)
	return l.place(at, name, p, func() error {
		err := unix.Linkat(from, targetName, at, name, 0)
		if other, serr := lookup(at, name); errors.Is(err, unix.EEXIST) && serr == nil && other != nil && other.Ino == st.Ino {
			return nil
		}
		return err
	})
}

// symlink makes a symbolic link, whatever it points to.
func (l *layer) symlink(at int, name, p string, h *tar.Header) error {
	if err := l.place(at, name, p, func() error { return unix.Symlinkat(h.Linkname, at, name) }); err != nil {
		return err
	}
	return l.meta(at, name, h)
}

func (l *layer) fifo(at int, name, p string, h *tar.Header) error {
	mode := uint32(h.Mode) & permBits
	if err := l.place(at, name, p, func() error { return unix.Mknodat(at, name, unix.S_IFIFO|mode, 0) }); err != nil {
		return err
	}
	return l.meta(at, name, h)
}

// place calls make, and once more after having removed what it found in the way.
func (l *layer) place(at int, name, p string, make func() error) error {
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := l.replace(at, name, p); err != nil {
		return fmt.Errorf("replace it: %w", err)
	}
	return make()
}

// replace removes what is at a path, and records that a directory was put aside: what
// comes later with a path below it is another file.
func (l *layer) replace(at int, name, p string) error {
	n := len(l.tree.set)
	err := l.tree.replace(at, name, p)
	if len(l.tree.set) > n && strings.HasSuffix(l.tree.set[n], "/") {
		l.record.aside(l.tree.set[n])
	}
	return err
}

// meta sets the owner and times of a file that cannot be opened.
func (l *layer) meta(at int, name string, h *tar.Header) error {
	uid, gid, err := l.owner(h)
	if err != nil {
		return err
	}
	if uid != 0 || gid != 0 {
		if err := ownerError(unix.Fchownat(at, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW), uid, gid); err != nil {
			return err
		}
	}
	ts := times(h.ModTime)
	if err := unix.UtimesNanoAt(at, name, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}
