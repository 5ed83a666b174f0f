// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/overlay"
	"github.com/slipway-net/slipway/launcher/store"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// When an image is pulled, as --pull has it.
const (
	pullAlways  = "always"
	pullMissing = "missing"
	pullNever   = "never"
)

// rootFlags are the flags of `slipway run` about the container's root directory.
type rootFlags struct {
	storage    storageFlags
	pull       pullFlags
	policy     string
	driver     string
	rootfs     string
	entrypoint string
	word       string        // the image as the user calls it; empty for none
	settled    chan struct{} // closed when the image is on the disk; nil if it is
	stopSignal string        // what the image says of it; empty for nothing
	// ids fills in the ids of the container, once it is known which its files have up to
	// greatest.
	ids func(greatest uint32) error
}

func (f *rootFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.rootfs, "rootfs", "", "use `DIR` as the root directory in place of an image; with :overlay behind it, keep it as it is")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "run `COMMAND` in place of what the image would; as JSON, several words")
	fs.StringVar(&f.policy, "pull", pullMissing, "pull the image `WHEN`: always, missing or never")
	fs.StringVar(&f.driver, "storage-driver", driverAuto, "`DRIVER` that makes the root of an image: overlay, fuse-overlayfs, copy, or auto, which is what slipway doctor finds")
	f.pull.add(fs)
	f.storage.add(fs)
}

// words tells what the words behind the flags are: an image, unless they are those of
// a command alone, and a command.
func (f *rootFlags) words(fs *pflag.FlagSet) (image string, command []string, err error) {
	words := fs.Args()
	if f.rootfs == "" && f.isOwn(fs) {
		if len(words) == 0 {
			return "", nil, fmt.Errorf("%w: run what? Give an IMAGE, or a command of this machine as in: slipway run -- sh", errUsage)
		}
		image, words = words[0], words[1:]
		if len(words) > 0 && words[0] == "--" {
			words = words[1:]
		}
		return image, words, nil
	}
	if f.rootfs == "" && len(words) == 0 {
		return "", nil, fmt.Errorf("%w: no command: give one after --, as in: slipway run -- sh", errUsage)
	}
	return "", words, nil
}

// isOwn reports whether the container has a root of its own, not the host's.
func (f *rootFlags) isOwn(fs *pflag.FlagSet) bool { return f.rootfs != "" || fs.ArgsLenAtDash() != 0 }

// prepare fills in what cfg says of the root directory. last is the directory of what
// the container wrote when it ran before; empty for a new one. The caller closes what
// it gets.
func (f *rootFlags) prepare(ctx context.Context, fs *pflag.FlagSet, cfg *launcher.Config, last string, log *slog.Logger, stderr io.Writer) (*containerRoot, error) {
	word, command, err := f.words(fs)
	if err != nil {
		return nil, err
	}
	cfg.Args, f.word = command, word
	if !fs.Changed("workdir") {
		cfg.Workdir = ""
	}
	r := &containerRoot{}
	if word == "" {
		if err := f.ids(0); err != nil || f.rootfs == "" {
			return r, err
		}
		return r, f.useDir(cfg)
	}
	if r.store, err = f.storage.open(log); err != nil {
		return nil, err
	}
	if err := f.useImage(ctx, r, word, cfg, last, stderr); err != nil {
		return nil, errors.Join(err, r.close(false, nil))
	}
	return r, nil
}

// bring pulls the image that the words behind the flags name, unless it is here or
// is to be pulled when the container starts.
func (f *rootFlags) bring(fs *pflag.FlagSet, stderr io.Writer) error {
	word, _, err := f.words(fs)
	if err != nil || word == "" || f.policy != pullMissing {
		return err
	}
	s, err := f.storage.open(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	_, err = f.find(context.Background(), s, word, "", stderr)
	return errors.Join(err, s.Close())
}

// useDir makes a directory of the host the root.
func (f *rootFlags) useDir(cfg *launcher.Config) error {
	dir, overlay := strings.CutSuffix(f.rootfs, ":overlay")
	if !overlay {
		dir, overlay = strings.CutSuffix(dir, ":O") // as Podman has it
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("--rootfs %s: want a directory: %w", dir, errors.Join(err, errUsage))
	}
	if overlay {
		cfg.Root.Lowers = []string{dir}
	} else {
		cfg.Root.Dir = dir
	}
	return f.apply(cfg, launcher.ImageDefaults{})
}

// useImage makes the layers of an image the root.
func (f *rootFlags) useImage(ctx context.Context, r *containerRoot, word string, cfg *launcher.Config, last string, stderr io.Writer) error {
	id, err := f.find(ctx, r.store, word, last, stderr)
	if err != nil {
		return err
	}
	img, release, err := r.store.Hold(id)
	if err != nil {
		return err
	}
	r.release = release
	if r.store.Unsettled(img) {
		f.settled = make(chan struct{})
		go func() {
			_ = r.store.Settle() // another time, if the container ends before it
			close(f.settled)
		}()
	}
	if err := f.ids(max(img.MaxUID, img.MaxGID)); err != nil {
		return err
	}
	if err := f.useLayers(ctx, r, img, cfg, last, stderr); err != nil {
		return err
	}
	c := img.Config
	f.stopSignal = c.StopSignal
	return f.apply(cfg, launcher.ImageDefaults{Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Workdir: c.WorkingDir, User: c.User})
}

// useLayers makes the layers of an image the root, with the owners that the
// container's ids make of their files.
func (f *rootFlags) useLayers(ctx context.Context, r *containerRoot, img *store.Image, cfg *launcher.Config, last string, stderr io.Writer) error {
	if cfg.IDs.IsZero() {
		cfg.IDs = r.store.Mapping
	}
	can, err := f.support(ctx, r.store)
	if err != nil {
		return err
	}
	shown := newProgress(stderr, f.pull.quiet)
	var copied func(int64)
	shifted := !cfg.IDs.Equal(r.store.Mapping)
	stacked := can.Native || can.Fuse != ""
	if shown != nil && (!stacked || shifted && !can.Data) {
		copied = shown.Copy(img.Size, whyCopy(can))
		defer shown.End()
	}
	if !stacked {
		if r.writable, err = f.useWritable(ctx, r.store, img, cfg, last, driverCopy); err == nil {
			cfg.Root.Dir, err = r.store.CopyRoot(ctx, r.writable, img, cfg.IDs, copied)
		}
		return err
	}
	roots, err := r.store.Lowers(ctx, img, cfg.IDs, can.Data, copied)
	if err != nil {
		return err
	}
	cfg.Root.Lowers, cfg.Root.Data = roots.Lowers, roots.Data
	driver := driverOverlay
	if can.Fuse != "" {
		driver = driverFuse
	}
	if r.writable, err = f.useWritable(ctx, r.store, img, cfg, last, driver); err != nil {
		return err
	}
	if r.writable != nil && (can.Upper || can.Fuse != "") { // else it is a tmpfs
		cfg.Root.Upper, cfg.Root.Work, cfg.Root.Fuse = r.writable.Upper, r.writable.Work, can.Fuse
	}
	return nil
}

// whyCopy says why an image is copied; the zero Support is what the user asked for.
func whyCopy(can overlay.Support) string {
	switch {
	case can.Native || can.Fuse != "":
		return "since its files need other owners"
	case len(can.Why) == 0:
		return "as --storage-driver says"
	}
	return "since neither overlayfs nor fuse-overlayfs works here (slipway doctor): " + strings.Join(can.Why, "; ")
}

// Storage drivers, as --storage-driver has them.
const (
	driverAuto    = "auto"
	driverOverlay = "overlay"
	driverFuse    = overlay.FuseName
	driverCopy    = "copy"
)

// support says what overlayfs can do for the store, or what the user says.
func (f *rootFlags) support(ctx context.Context, s *store.Store) (overlay.Support, error) {
	switch f.driver {
	case driverCopy:
		return overlay.Support{}, nil
	case driverFuse:
		program, err := overlay.FindFuse()
		if err != nil {
			err = fmt.Errorf("--storage-driver %s: %w", f.driver, err)
		}
		return overlay.Support{Fuse: program}, err
	case driverAuto, driverOverlay:
	default:
		return overlay.Support{}, fmt.Errorf("%w: --storage-driver %s: want auto, overlay, fuse-overlayfs or copy", errUsage, f.driver)
	}
	can, err := findOverlay(ctx, s)
	if err == nil && f.driver == driverOverlay && !can.Native {
		err = fmt.Errorf("--storage-driver overlay: %s", strings.Join(can.Why, "; "))
	}
	return can, err
}

// findOverlay says what overlayfs can do for a store.
func findOverlay(ctx context.Context, s *store.Store) (overlay.Support, error) {
	containers, err := openStore() // which sees to it that the directory is ours
	if err != nil {
		return overlay.Support{}, err
	}
	can, err := overlay.Find(ctx, filepath.Join(s.Dir, "tmp"), filepath.Join(containers.RunDir(), "overlays.json"), s.Mapping)
	if errors.Is(err, unix.EROFS) { // then layers are all that is on it
		can, err = overlay.Find(ctx, containers.RunDir(), filepath.Join(containers.RunDir(), "overlays.json"), s.Mapping)
		can.Upper = false
	}
	return can, err
}

// useWritable makes the layer that the container writes to, or takes the one that it
// had when it ran before.
func (f *rootFlags) useWritable(ctx context.Context, s *store.Store, img *store.Image, cfg *launcher.Config, last, driver string) (*store.Writable, error) {
	if last != "" {
		w, _, err := s.OpenWritable(filepath.Base(last))
		return w, err
	}
	mode := os.FileMode(0o755)
	if len(cfg.Root.Lowers) > 0 {
		st, err := os.Stat(cfg.Root.Lowers[0])
		if err != nil {
			return nil, err
		}
		mode = st.Mode().Perm() | st.Mode()&os.ModeSticky
	}
	w, err := s.NewWritable(ctx, img.ID, cfg.IDs, mode)
	if errors.Is(err, unix.EROFS) {
		if cfg.Root.ReadOnly && driver == driverOverlay {
			return nil, nil // an empty layer in memory does
		}
		err = fmt.Errorf("%w: run with --read-only, or with another --root", err)
	}
	if err != nil || driver == driverOverlay {
		return w, err
	}
	if err := w.SetDriver(driver); err != nil {
		return nil, errors.Join(err, w.Remove(ctx))
	}
	return w, nil
}

// apply fills in what the image says and the flags do not.
func (f *rootFlags) apply(cfg *launcher.Config, d launcher.ImageDefaults) error {
	entrypoint, err := parseEntrypoint(f.entrypoint)
	if err != nil {
		return err
	}
	cfg.ApplyImage(d, entrypoint)
	if len(cfg.Args) == 0 {
		return fmt.Errorf("%w: the image has no command: give one behind it", errUsage)
	}
	return nil
}

// parseEntrypoint parses --entrypoint: a command, or a JSON list of words.
func parseEntrypoint(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	if !strings.HasPrefix(s, "[") {
		return []string{s}, nil
	}
	var words []string
	if err := json.Unmarshal([]byte(s), &words); err != nil {
		return nil, fmt.Errorf("%w: --entrypoint %s: want a command or a JSON list of words", errUsage, s)
	}
	return words, nil
}
