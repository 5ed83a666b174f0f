// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/store"
)

// A containerRoot is what holds a container's root directory while it runs.
type containerRoot struct {
	store    *store.Store    // nil for the host's own root
	writable *store.Writable // nil if the container writes to a directory or a tmpfs
	release  func()          // of the image; nil without one
	// discarded is what became of writable, where that is gone.
	discarded error
}

// dir is the directory of what the container writes; empty for none.
func (r *containerRoot) dir() string {
	if r.writable == nil {
		return ""
	}
	return filepath.Dir(r.writable.Upper)
}

// discard removes what the container has written, once it has ended, by the sweeper if
// there is one. To be called again does nothing.
func (r *containerRoot) discard(s *launcher.Sweeper) {
	if r.writable == nil {
		return
	}
	if s != nil {
		defer s.Close() // which may not have been needed
		r.writable.Sweep = s.Sweep
	}
	r.discarded = r.writable.Remove(context.Background())
	r.writable = nil
}

// close gives the root back. What the container has written is removed unless it is
// to be kept, by the sweeper if there is one.
func (r *containerRoot) close(keep bool, s *launcher.Sweeper) error {
	if !keep {
		r.discard(s)
	} else if r.writable != nil {
		r.writable.Close()
	}
	err := r.discarded
	if r.release != nil {
		r.release()
	}
	if r.store != nil {
		err = errors.Join(err, r.store.Close())
	}
	return err
}
