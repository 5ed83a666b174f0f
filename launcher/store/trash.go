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
	// A directory of its own makes the name free.
	dir, err := os.MkdirTemp(s.path(trashDir), "")
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	err = os.Rename(s.path(name), path.Join(dir, "gone"))
	if errors.Is(err, os.ErrNotExist) {
		return os.Remove(dir)
	}
	if err != nil {
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
