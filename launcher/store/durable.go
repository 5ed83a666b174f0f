// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// durable marks layers and images that are known to be on the disk: an empty file in
// the directory of a layer, and with this suffix beside an image.
const durable = "durable"

// settleAge is how old a layer is before it is waited for on the disk. The kernel has
// begun to write it by then (vm.dirty_expire_centisecs is 30 s).
const settleAge = time.Minute

// bootID tells this boot of the machine from others.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // then nothing is trusted that is not marked
	}
	return strings.TrimSpace(string(b))
}

// written reports whether what a boot has written can be trusted in this one.
func (s *Store) written(boot, mark string) bool {
	if boot != "" && boot == s.boot() {
		return true
	}
	_, err := os.Lstat(s.path(mark))
	return err == nil
}

// mark makes a mark. Where the store cannot be written to, all is verified each time.
func (s *Store) mark(name string) error {
	err := os.WriteFile(s.path(name), nil, 0o600)
	if errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}

func layerMark(layer string) string { return path.Join(layer, durable) }

func imageMark(id Digest) string { return path.Join(imageDir, id.Hex()+"."+durable) }

// Check returns an error unless all layers of an image are there and whole. Where the
// machine may have failed before they were on the disk they are read, which takes a
// while, and those that are not whole are removed. Its error is an ErrNotFound if the
// image must be pulled again.
func (s *Store) Check(ctx context.Context, i *Image) error {
	whole := s.written(i.Boot, imageMark(i.ID))
	for _, d := range i.Layers {
		var err error
		if whole {
			_, err = os.Lstat(s.path(s.layerName(d), layerMeta))
		} else {
			_, err = s.usable(ctx, d)
		}
		if errors.Is(err, os.ErrNotExist) {
			err = ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("image %s: layer %s: %w", i.ID.Short(), d.Short(), err)
		}
	}
	if whole {
		return nil
	}
	return s.mark(imageMark(i.ID))
}

// usable returns a layer that is there and whole, as Check has it.
func (s *Store) usable(ctx context.Context, diffID Digest) (*Layer, error) {
	l, err := s.Layer(diffID)
	name := s.layerName(diffID)
	if err != nil || s.written(l.Boot, layerMark(name)) {
		return l, err
	}
	s.Log.Info("verifying a layer, as the machine may have failed while it was written", "layer", diffID.Short())
	var got string
	if err := s.ns.call(ctx, opVerify, layerArgs{Dir: name, Aside: l.Aside}, &got); err != nil || got != string(diffID) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.Log.Warn("a layer was not whole on the disk", "layer", diffID.Short(), "err", err)
		return nil, errors.Join(ErrNotFound, s.discard(ctx, name))
	}
	return l, s.mark(layerMark(name))
}

// Settle sees to it that what was written a while ago is on the disk, and notes that,
// so that it need not be read after the next boot. It may take long; nobody needs to
// wait for it.
func (s *Store) Settle() error {
	var marks []string
	layers, err := s.list(layerDir)
	if err != nil {
		return err
	}
	for _, l := range layers {
		name := path.Join(layerDir, l)
		var rec Layer
		if s.readJSON(path.Join(name, layerMeta), &rec) == nil && s.due(path.Join(name, layerMeta), layerMark(name)) && rec.Boot == s.boot() {
			marks = append(marks, layerMark(name))
		}
	}
	ids, err := s.ImageIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if i, err := s.Image(id); err == nil && i.Boot == s.boot() && s.due(imageName(id), imageMark(id)) {
			marks = append(marks, imageMark(id))
		}
	}
	if len(marks) == 0 {
		return nil
	}
	d, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("write the store to the disk: %w", err)
	}
	for _, m := range marks {
		if err := s.mark(m); err != nil && !errors.Is(err, os.ErrNotExist) { // removed meanwhile
			return err
		}
	}
	return nil
}

// due reports whether a file is old enough to be settled and not yet marked.
func (s *Store) due(name, mark string) bool {
	st, err := os.Lstat(s.path(name))
	if err != nil || time.Since(st.ModTime()) < settleAge {
		return false
	}
	_, err = os.Lstat(s.path(mark))
	return errors.Is(err, os.ErrNotExist)
}

// Unsettled reports whether Settle has something to do for an image.
func (s *Store) Unsettled(i *Image) bool {
	return i.Boot == s.boot() && s.due(imageName(i.ID), imageMark(i.ID))
}
