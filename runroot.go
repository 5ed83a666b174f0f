// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/userns"
)

// The values of --pull.
const (
	pullMissing = "missing"
	pullAlways  = "always"
	pullNever   = "never"
)

// rootFlags are the flags of where a container's root comes from.
type rootFlags struct {
	storageFlags
	pull     pullFlags
	when     string
	launcher *launcher.Flags
}

func (f *rootFlags) add(fs *pflag.FlagSet) {
	f.storageFlags.add(fs)
	f.pull.add(fs)
	fs.StringVar(&f.when, "pull", pullMissing, "`WHEN` to pull the image: missing, always or never")
}

// volumesDir is the directory of named volumes.
func volumesDir() string { return filepath.Join(state.DataDir(os.Getenv), "volumes") }

// slicePool gives out subordinate ids to the containers of --userns=auto. They are kept
// apart for as long as volumes may have files of theirs, so not in what a reboot clears.
func slicePool() (userns.Pool, error) {
	dir := state.DataDir(os.Getenv)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return userns.Pool{}, fmt.Errorf("make the directory of containers: %w", err)
	}
	return userns.Pool{Dir: dir}, nil
}

// prepare fills in the container's ids, its root and what the image says of its
// command. The caller calls release when the container has ended. owner is whom ids are
// taken for.
func (f *rootFlags) prepare(ctx context.Context, cfg *launcher.Config, name, owner string, stderr io.Writer, log *slog.Logger) (release func(), err error) {
	none := func() {}
	if name == "" && cfg.Root.IsHost() && f.launcher.UserNS.IsZero() {
		return none, nil
	}
	freeIDs, err := f.mapIDs(cfg, owner, log)
	if err != nil || name == "" {
		return freeIDs, err
	}
	s, err := f.open(log)
	if err != nil {
		freeIDs()
		return none, err
	}
	letGo, err := f.image(ctx, s, cfg, name, stderr)
	if err != nil {
		freeIDs()
		return none, errors.Join(err, s.Close())
	}
	return func() {
		letGo()
		freeIDs()
		if err := s.Close(); err != nil {
			log.Warn("close the store of images", "err", err)
		}
	}, nil
}

// mapIDs fills in the mapping. What it returns gives a slice of ids back.
func (f *rootFlags) mapIDs(cfg *launcher.Config, owner string, log *slog.Logger) (free func(), err error) {
	free = func() {}
	caller, err := userns.Load()
	if err != nil {
		return free, err
	}
	pool, err := slicePool()
	if err != nil {
		return free, err
	}
	warn := func(err error) { log.Warn("the container has your id and no other", "why", err) }
	m, user, err := f.launcher.UserNS.Mapping(caller, pool, owner, warn)
	if err != nil {
		return free, err
	}
	cfg.IDs = m
	if cfg.User == "" {
		cfg.User = user
	}
	if !f.launcher.UserNS.NeedsPool() {
		return free, nil
	}
	return func() {
		if err := pool.Free(owner); err != nil {
			log.Warn("give the container's ids back", "err", err)
		}
	}, nil
}

// image makes the root of an image, which is held until what is returned is called.
func (f *rootFlags) image(ctx context.Context, s *store.Store, cfg *launcher.Config, name string, stderr io.Writer) (release func(), err error) {
	id, err := f.find(ctx, s, name, stderr)
	if err != nil {
		return nil, err
	}
	img, release, err := s.Hold(id)
	if err != nil {
		return nil, err
	}
	for _, l := range slices.Backward(img.Layers) {
		cfg.Root.Lowers = append(cfg.Root.Lowers, s.LayerDir(l))
	}
	cfg.ApplyImage(launcher.ImageDefaults{
		Env: img.Config.Env, Entrypoint: img.Config.Entrypoint, Cmd: img.Config.Cmd,
		Workdir: img.Config.WorkingDir, User: img.Config.User,
	})
	return release, nil
}

// find finds the image in the store, or pulls it.
func (f *rootFlags) find(ctx context.Context, s *store.Store, name string, stderr io.Writer) (store.Digest, error) {
	switch f.when {
	case pullMissing, pullAlways, pullNever:
	default:
		return "", fmt.Errorf("%w: --pull %q: want missing, always or never", errUsage, f.when)
	}
	transport, _, _ := image.SplitTransport(name)
	if transport == "" && f.when != pullAlways {
		id, err := findImage(s, name)
		if err == nil || f.when == pullNever || !errors.Is(err, store.ErrNotFound) {
			return id, err
		}
	}
	images, err := f.pull.pull(ctx, s, name, stderr)
	if err != nil {
		return "", err
	}
	if len(images) != 1 {
		return "", fmt.Errorf("%w: %s has %d images: say which, as NAME behind a colon", errUsage, name, len(images))
	}
	return images[0].ID, nil
}

// findImage finds an image of the store by its name or the beginning of its id.
func findImage(s *store.Store, word string) (store.Digest, error) {
	n, err := image.ParseName(word)
	if err == nil {
		ref, err := s.Ref(n.String())
		if err == nil {
			return ref.Image, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
	}
	id, perr := s.ByPrefix(word)
	if perr != nil && err != nil {
		return "", err
	}
	return id, perr
}
