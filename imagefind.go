// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
)

// find looks for the image in the store, and pulls it if --pull says so. For a
// container that ran before it is the one that it had then.
func (f *rootFlags) find(ctx context.Context, s *store.Store, word, last string, stderr io.Writer) (store.Digest, error) {
	if last != "" {
		w, id, err := s.OpenWritable(filepath.Base(last))
		if err != nil {
			return "", err
		}
		defer w.Close()
		if was, err := w.Driver(); err != nil || was != "" {
			f.driver = was
			return id, err
		}
		return id, nil
	}
	if !slices.Contains([]string{pullAlways, pullMissing, pullNever}, f.policy) {
		return "", fmt.Errorf("%w: --pull %s: want always, missing or never", errUsage, f.policy)
	}
	if f.policy != pullAlways {
		id, err := f.local(ctx, s, word)
		if err == nil || !errors.Is(err, store.ErrNotFound) {
			return id, err
		}
		if f.policy == pullNever {
			return "", fmt.Errorf("image %s is not here: pull it before, or leave out --pull=never", word)
		}
	}
	images, err := f.pull.pull(ctx, s, word, stderr)
	switch {
	case errors.Is(err, store.ErrNotFound) || errors.Is(err, image.ErrAccess):
		return "", fmt.Errorf("%w; for a command of this machine put it after --, as in: slipway run -- %s", err, word)
	case err != nil:
		return "", err
	case len(images) != 1:
		return "", fmt.Errorf("%w: %s has %d images: name one, as in %s:NAME", errUsage, word, len(images), word)
	}
	return images[0].ID, nil
}

// local looks for the image in the store alone. One that is not whole, or for another
// platform than is asked for, is none.
func (f *rootFlags) local(ctx context.Context, s *store.Store, word string) (store.Digest, error) {
	id, err := resolve(s, word)
	if err != nil {
		return id, err
	}
	i, err := s.Image(id)
	if err != nil {
		return "", err
	}
	if f.pull.platform != "" {
		want, err := f.pull.forPlatform()
		if err != nil {
			return "", err
		}
		if (image.Platform{OS: i.OS, Arch: i.Arch, Variant: i.Variant}) != want {
			return "", fmt.Errorf("image %s for %s: %w", word, want, store.ErrNotFound)
		}
	}
	return id, s.Check(ctx, i)
}

// resolve returns the image that a user calls by a name, or by the beginning of its
// id. Its error is a store.ErrNotFound if there is none.
func resolve(s *store.Store, word string) (store.Digest, error) {
	if transport, _, _ := image.SplitTransport(word); transport != "" {
		return "", fmt.Errorf("image %s: %w", word, store.ErrNotFound)
	}
	names, err := image.Candidates(strings.TrimPrefix(word, "docker://"))
	for _, n := range names {
		r, rerr := s.Ref(n.String())
		if rerr == nil {
			return r.Image, nil
		}
		if !errors.Is(rerr, store.ErrNotFound) {
			return "", rerr
		}
	}
	id, perr := s.ByPrefix(word)
	if errors.Is(perr, store.ErrNotFound) && err != nil {
		return "", err
	}
	return id, perr
}
