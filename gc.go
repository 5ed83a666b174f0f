// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
)

const (
	gcSynopsis = "gc [flags]"
	gcAbout    = `Removes what nobody can use any more: images without a name, layers of no image,
and what is left of commands and containers that were killed, in CNI networks, too.
While an image is being pulled it does nothing.`
)

// runGC is `slipway gc`.
func runGC(args []string, stdout, stderr io.Writer) int {
	c := newStorageCommand("gc", gcSynopsis, gcAbout, stdout, stderr)
	return c.run(args, 0, 0, func(ctx context.Context, s *store.Store, _ []string) error {
		left := sweepNetworks()
		r, err := collect(ctx, s)
		if err != nil {
			return errors.Join(left, err)
		}
		fmt.Fprintf(stdout, "removed %d images, %d layers and the files of %d containers: %s of layers\n", r.Images, r.Layers, r.Writables, image.Size(r.Bytes))
		return left
	})
}

// collect has the store remove what nobody can use.
func collect(ctx context.Context, s *store.Store) (store.Report, error) {
	states, err := openStore()
	if err != nil {
		return store.Report{}, err
	}
	containers, err := states.List()
	if err != nil {
		return store.Report{}, err
	}
	kept := map[string]bool{}
	for _, c := range containers {
		if c.Layer != "" {
			kept[filepath.Base(c.Layer)] = true
		}
	}
	return s.GC(ctx, func(name string) bool { return kept[name] })
}
