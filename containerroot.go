// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"path/filepath"

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

// discard removes what the container has written, once it has ended. To be called again
// does nothing.
func (r *containerRoot) discard() {
	if r.writable != nil {
		r.discarded = r.writable.Remove(context.Background())
		r.writable = nil
	}
}

// close gives the root back. What the container has written is removed unless it is
// to be kept.
func (r *containerRoot) close(keep bool) error {
	if !keep {
		r.discard()
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
