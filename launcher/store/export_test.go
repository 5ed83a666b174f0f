// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// Reset removes all that is in the store and the store itself, which is of no use
// afterwards. Much of that is not the caller's own, so os.RemoveAll cannot.
func (s *Store) Reset(ctx context.Context) error {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reset the store: %w", err)
	}
	for _, e := range entries {
		if err := s.remove(ctx, e.Name()); err != nil {
			return fmt.Errorf("reset the store: %w", err)
		}
	}
	return os.Remove(s.Dir)
}

// SetBoot makes it another boot for s.
func (s *Store) SetBoot(id string) { s.boot = func() string { return id } }

// Unmark takes away what says that the image is on the disk.
func (s *Store) Unmark(i *Image) error {
	err := os.Remove(s.path(imageMark(i.ID)))
	for _, d := range i.Layers {
		err = errors.Join(err, os.Remove(s.path(layerMark(s.layerName(d)))))
	}
	return err
}

// KillStage kills the stage, as the kernel does when memory is short, and waits for its
// end; before that, for its start.
func (s *Store) KillStage() {
	for {
		s.ns.mu.Lock()
		st := s.ns.stage
		s.ns.mu.Unlock()
		if st != nil {
			_ = st.cmd.Process.Kill()
			<-st.done
			return
		}
		runtime.Gosched()
	}
}

// MaxSpare is maxSpare.
const MaxSpare = maxSpare
