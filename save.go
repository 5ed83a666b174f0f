// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
)

const (
	saveSynopsis = "save [flags] IMAGE..."
	saveAbout    = `Writes images to an archive that slipway, Podman, Docker and every tool for OCI
layouts can load.`
)

// saveBuffer is the size in bytes of the writes to an archive.
const saveBuffer = 1 << 20

// runSave is `slipway save`.
func runSave(args []string, stdout, stderr io.Writer) int {
	var output string
	c := newStorageCommand("save", saveSynopsis, saveAbout, stdout, stderr)
	c.fs.StringVarP(&output, "output", "o", "", "`FILE` to write (default standard output)")
	return c.run(args, 1, -1, func(ctx context.Context, s *store.Store, words []string) error {
		var images []image.Saved
		for _, w := range words {
			id, err := resolve(s, w)
			if err != nil {
				return err
			}
			_, release, err := s.Hold(id)
			if err != nil {
				return err
			}
			defer release()
			images = append(images, image.Saved{ID: id, Names: namesOf(s, w, id)})
		}
		if output == "" {
			return saveTo(ctx, s, images, os.Stdout)
		}
		return saveFile(ctx, s, images, output)
	})
}

// namesOf is the name in the store by which a user calls an image; none for an id.
func namesOf(s *store.Store, word string, id store.Digest) []image.Name {
	names, _ := image.Candidates(word) // no name but an id
	for _, n := range names {
		if r, err := s.Ref(n.String()); err == nil && r.Image == id {
			return []image.Name{n}
		}
	}
	return nil
}

// saveTo writes images to an open file.
func saveTo(ctx context.Context, s *store.Store, images []image.Saved, f *os.File) error {
	if isTTY(f) {
		return fmt.Errorf("%w: standard output is a terminal: give a file, as in: slipway save -o FILE", errUsage)
	}
	w := bufio.NewWriterSize(f, saveBuffer)
	if err := image.Save(ctx, s, images, w); err != nil {
		return err
	}
	return w.Flush()
}

// saveFile writes images to a file, which is there whole or not at all.
func saveFile(ctx context.Context, s *store.Store, images []image.Saved, name string) (err error) {
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() { // such as /dev/null
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("save: %w", err)
		}
		defer f.Close()
		return saveTo(ctx, s, images, f)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+strings.TrimPrefix(filepath.Base(name), ".")+"-")
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	err = saveTo(ctx, s, images, f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
