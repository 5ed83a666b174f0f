// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
)

const (
	loadSynopsis = "load [flags]"
	loadAbout    = `Brings the images of an archive as ` + "`podman save`, `docker save` and `slipway save`" + `
make it, and prints their names.`
)

// runLoad is `slipway load`.
func runLoad(args []string, stdout, stderr io.Writer) int {
	var f pullFlags
	var input string
	c := newStorageCommand("load", loadSynopsis, loadAbout, stdout, stderr)
	c.fs.StringVarP(&input, "input", "i", "", "the archive, or a directory with an OCI layout (default standard input)")
	c.fs.StringVar(&f.platform, "platform", "", "what the images are to be built for: OS/ARCH[/VARIANT] (default this machine)")
	c.fs.BoolVarP(&f.quiet, "quiet", "q", false, "print no progress")
	return c.run(args, 0, 0, func(ctx context.Context, s *store.Store, _ []string) error {
		end, err := s.Pulling(ctx)
		if err != nil {
			return err
		}
		defer end()
		return f.load(ctx, s, input, stdout, stderr)
	})
}

// load brings all images of an archive.
func (f *pullFlags) load(ctx context.Context, s *store.Store, input string, stdout, stderr io.Writer) error {
	platform, err := f.forPlatform()
	if err != nil {
		return err
	}
	l, err := openInput(input, filepath.Join(s.Dir, "tmp"))
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer l.Close()
	found, err := l.Images(ctx, "", platform)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	added, err := addImages(ctx, s, found, newProgress(stderr, f.quiet))
	for i, img := range added {
		fmt.Fprintf(stdout, "Loaded image: %s\n", called(found[i], img))
	}
	return err
}

// called is the name of an image, or its id if it has none.
func called(found *image.Image, i *store.Image) string {
	if len(found.Names) > 0 {
		return found.Names[0].String()
	}
	return string(i.ID)
}

func openInput(input, tmp string) (*image.Local, error) {
	if input == "" {
		if isTTY(os.Stdin) {
			return nil, fmt.Errorf("%w: standard input is a terminal: give an archive, as in: slipway load -i FILE", errUsage)
		}
		return image.OpenArchive(os.Stdin, tmp)
	}
	if st, err := os.Stat(input); err == nil && st.IsDir() {
		return image.OpenDir(input)
	}
	f, err := os.Open(input)
	if err != nil {
		return nil, err
	}
	return image.OpenArchive(f, tmp)
}
