// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
)

// archiveLayer is how much of an archive is in one of its directories (bytes).
const archiveLayer = 64 << 20

// archiveFiles are the files of an archive, again and again, by size: many small ones,
// and most bytes in few, as in an image of a distribution.
var archiveFiles = [...]struct{ size, times int }{{4 << 10, 16}, {32 << 10, 8}, {256 << 10, 2}, {1 << 20, 1}}

// writeArchive writes a tar archive whose files hold at least so many bytes.
func writeArchive(w io.Writer, least int64) error {
	out := tar.NewWriter(w)
	largest := archiveFiles[len(archiveFiles)-1].size
	data := make([]byte, largest)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	for done, n := int64(0), 0; done < least; {
		for _, f := range archiveFiles {
			for range f.times {
				name := fmt.Sprintf("layer%d/%d/%d", done/archiveLayer, n%100, n)
				if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(f.size)}); err != nil {
					return fmt.Errorf("write the archive: %w", err)
				}
				if _, err := out.Write(data[:f.size]); err != nil {
					return fmt.Errorf("write the archive: %w", err)
				}
				done += int64(f.size)
				n++
			}
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// unpack writes an archive's files below a directory, and returns how many there are
// and how many bytes they hold. A layer is removed when the one behind the next begins,
// so that two of them is all that the file system must hold.
func unpack(r io.Reader, dir string) (files int, bytes int64, err error) {
	var last, before string
	for in := tar.NewReader(r); ; files++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files, bytes, nil
		}
		if err != nil {
			return files, bytes, fmt.Errorf("read the archive: %w", err)
		}
		if !filepath.IsLocal(h.Name) {
			return files, bytes, fmt.Errorf("unpack %q: the name leads out of the archive", h.Name)
		}
		if layer := path.Dir(path.Dir(h.Name)); layer != last {
			if before != "" {
				if err := os.RemoveAll(filepath.Join(dir, before)); err != nil {
					return files, bytes, fmt.Errorf("remove what is unpacked: %w", err)
				}
			}
			before, last = last, layer
		}
		n, err := unpackFile(in, filepath.Join(dir, h.Name))
		bytes += n
		if err != nil {
			return files, bytes, fmt.Errorf("unpack: %w", err)
		}
	}
}

// unpackFile writes one file, whose directory is made where there is none.
func unpackFile(r io.Reader, name string) (int64, error) {
	const mode = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(name, mode, 0o644)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return 0, err
		}
		f, err = os.OpenFile(name, mode, 0o644)
	}
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, r)
	return n, errors.Join(err, f.Close())
}
