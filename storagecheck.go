// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-net/slipway/launcher/overlay"
	"github.com/slipway-net/slipway/launcher/userns"
	"github.com/slipway-net/slipway/tap"
)

// checkStorage tries by which means the layers of images become the root of a
// container, where the store is or will be.
func checkStorage(ctx context.Context) []tap.Check {
	can, err := tryStorage(ctx)
	layers := tap.Check{Name: "layers of images are mounted (overlayfs)", OK: can.Native && can.Upper || can.Fuse != ""}
	ids := tap.Check{Name: "containers with other ids without a copy of the image (data-only layers)", OK: can.Data}
	switch {
	case err != nil:
		layers.Detail, layers.Fix = err.Error(), "see the lines above"
	case can.Fuse != "":
		layers.Detail = "by fuse-overlayfs, which is slower: " + strings.Join(can.Why, "; ")
	case !can.Native:
		layers.Detail = "each container gets a copy of its image: " + strings.Join(can.Why, "; ")
		layers.Fix = "use Linux 5.11 or later, and a directory on ext4, xfs or btrfs for --root; or install fuse-overlayfs and make /dev/fuse available"
	case !can.Upper:
		layers.Detail = "what a container writes is kept in memory: " + strings.Join(can.Why, "; ")
		layers.Fix = "use a directory on ext4, xfs or btrfs for --root"
	}
	if !ids.OK && err == nil {
		ids.Detail = "the first start with other ids copies the image: " + strings.Join(can.Why, "; ")
		ids.Fix = "use Linux 6.16 or later"
	}
	return []tap.Check{layers, ids}
}

// tryStorage tries overlayfs in the store's directory, or in the nearest one above it
// that is there.
func tryStorage(ctx context.Context) (overlay.Support, error) {
	var f storageFlags
	dir, err := f.dir()
	if err != nil {
		return overlay.Support{}, err
	}
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	c, err := userns.Load()
	if err != nil {
		return overlay.Support{}, err
	}
	m, err := c.Default()
	if err != nil {
		m = c.Single()
	}
	return overlay.Probe(ctx, dir, m)
}
