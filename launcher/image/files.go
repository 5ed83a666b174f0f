// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxArchiveFiles bounds the files of an archive of images: two for each layer, and a
// few for each image.
const maxArchiveFiles = 64 << 10

// maxArchiveLinks bounds the links that one name in an archive may lead through.
const maxArchiveLinks = 8

// files are the files of a layout or an archive, by slash-separated paths.
type files interface {
	// open opens a file and tells its size in bytes. Its error is an fs.ErrNotExist if
	// there is none.
	open(name string) (io.ReadCloser, int64, error)
	Close() error
}

// dirFiles are the files of a directory, which no link leads out of.
type dirFiles struct{ *os.Root }

func (d dirFiles) open(name string) (io.ReadCloser, int64, error) {
	// Without waiting for whoever would write to a pipe.
	f, err := d.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: no regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// tarFiles are the files of a tar archive, which are read where they are in it.
type tarFiles struct {
	f     *os.File
	index map[string]tarFile
}

// A tarFile is where a file is in its archive, or, for a link, its target.
type tarFile struct {
	off, size int64
	link      string
}

// newTarFiles lists an archive. It takes over f, which must be seekable.
func newTarFiles(f *os.File) (*tarFiles, error) {
	t := &tarFiles{f: f, index: map[string]tarFile{}}
	tr := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err == nil && n >= maxArchiveFiles {
			err = fmt.Errorf("more than %d files", maxArchiveFiles)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s is no archive of images: %w", ErrImage, f.Name(), err)
		}
		name := path.Clean(strings.TrimLeft(h.Name, "/"))
		switch h.Typeflag {
		case tar.TypeReg:
			off, err := f.Seek(0, io.SeekCurrent) // where the content begins
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", f.Name(), err)
			}
			t.index[name] = tarFile{off: off, size: h.Size}
		case tar.TypeSymlink:
			t.index[name] = tarFile{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			t.index[name] = tarFile{link: path.Clean(h.Linkname)}
		}
	}
}

func (t *tarFiles) open(name string) (io.ReadCloser, int64, error) {
	name = path.Clean(name)
	for range maxArchiveLinks {
		e, ok := t.index[name]
		if !ok {
			return nil, 0, fmt.Errorf("%s in %s: %w", name, t.f.Name(), fs.ErrNotExist)
		}
		if e.link == "" {
			return io.NopCloser(io.NewSectionReader(t.f, e.off, e.size)), e.size, nil
		}
		name = e.link
	}
	return nil, 0, fmt.Errorf("%w: %s in %s: too many links", ErrImage, name, t.f.Name())
}

// Close closes the archive.
func (t *tarFiles) Close() error { return t.f.Close() }
