// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
	"github.com/spf13/pflag"
)

const (
	pullSynopsis = "pull [flags] IMAGE..."
	pullAbout    = `Brings images from a registry, and prints their ids. An IMAGE is
[REGISTRY/]NAME[:TAG][@sha256:DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
docker-archive:FILE[:NAME], or containers-storage:NAME for what Podman has. Layers
that are here already are not fetched again.
Credentials are those of ` + "`podman login` and `docker login`" + `.`
)

// pullFlags are the flags of the commands that pull.
type pullFlags struct {
	platform  string
	authFile  string
	tlsVerify bool
	quiet     bool
}

func (f *pullFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.platform, "platform", "", "what the image is to be built for: OS/ARCH[/VARIANT] (default this machine)")
	fs.StringVar(&f.authFile, "authfile", "", "file with credentials for registries, before the usual ones")
	fs.BoolVar(&f.tlsVerify, "tls-verify", true, "take registries only with a certificate that somebody vouches for")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print no progress")
}

// runPull is `slipway pull`.
func runPull(args []string, stdout, stderr io.Writer) int {
	var f pullFlags
	c := newStorageCommand("pull", pullSynopsis, pullAbout, stdout, stderr)
	f.add(c.fs)
	return c.run(args, 1, -1, func(ctx context.Context, s *store.Store, words []string) error {
		for _, w := range words {
			images, err := f.pull(ctx, s, w, stderr)
			if err != nil {
				return err
			}
			for _, i := range images {
				fmt.Fprintln(stdout, i.ID)
			}
		}
		return nil
	})
}

// pull brings what word names into the store.
func (f *pullFlags) pull(ctx context.Context, s *store.Store, word string, stderr io.Writer) ([]*store.Image, error) {
	end, err := s.Pulling(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	found, done, err := f.find(ctx, s, word)
	if err != nil {
		return nil, err
	}
	defer done()
	return addImages(ctx, s, found, newProgress(stderr, f.quiet))
}

// find looks for what word names. The caller calls done when it has what it wants.
func (f *pullFlags) find(ctx context.Context, s *store.Store, word string) (found []*image.Image, done func(), err error) {
	platform, err := f.forPlatform()
	if err != nil {
		return nil, nil, err
	}
	transport, path, name := image.SplitTransport(word)
	if transport != "" {
		l, err := image.OpenTransport(ctx, transport, path, s)
		if err != nil {
			return nil, nil, fmt.Errorf("pull %s: %w", word, err)
		}
		found, err := l.Images(ctx, name, platform)
		if err != nil {
			l.Close()
			return nil, nil, fmt.Errorf("pull %s: %w", word, err)
		}
		return found, func() { l.Close() }, nil
	}
	n, err := image.ParseName(name)
	if err != nil {
		return nil, nil, err
	}
	r := image.Registry{Auth: image.NewAuth(f.authFile, os.LookupEnv), Platform: platform, Insecure: !f.tlsVerify}
	img, err := r.Find(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	return []*image.Image{img}, func() {}, nil
}

func (f *pullFlags) forPlatform() (image.Platform, error) {
	if f.platform == "" {
		return image.Platform{}, nil
	}
	p, err := image.ParsePlatform(f.platform)
	if err != nil {
		return p, fmt.Errorf("%w: %w", errUsage, err)
	}
	return p, nil
}

// addImages puts images into the store.
func addImages(ctx context.Context, s *store.Store, found []*image.Image, p *image.Progress) ([]*store.Image, error) {
	var added []*store.Image
	for _, img := range found {
		i, err := image.Add(ctx, s, img, p)
		if err != nil {
			return added, err
		}
		added = append(added, i)
	}
	return added, nil
}
