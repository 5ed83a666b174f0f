// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
)

// discard takes a file or directory of the store away at once, and then removes it.
// What of it is still there when the process is killed is found by GC.
func (s *Store) discard(ctx context.Context, name string) error {
	err := s.Discard(ctx, s.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Discard removes the directory at a path, which may have files of any of the ids that the
// store's Mapping has, and is on the store's file system. Its error is an os.ErrNotExist if
// there is none. What a killed process has left of it GC removes.
func (s *Store) Discard(ctx context.Context, name string) error {
	// A directory of its own makes the name free.
	dir, err := os.MkdirTemp(s.path(trashDir), "")
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err = os.Rename(name, path.Join(dir, "gone")); err != nil {
		_ = os.Remove(dir)
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return s.remove(ctx, path.Join(trashDir, path.Base(dir)))
}

// remove removes a file or directory of the store, whoever owns what is in it.
func (s *Store) remove(ctx context.Context, name string) error {
	if _, err := os.Lstat(s.path(name)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := s.ns.call(ctx, opRemove, removeArgs{Name: name}, nil); err != nil {
		return fmt.Errorf("remove %s: %w", s.path(name), err)
	}
	return nil
}
