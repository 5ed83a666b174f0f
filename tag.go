// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
)

const (
	tagSynopsis = "tag IMAGE NAME..."
	tagAbout    = `Gives IMAGE more names. A name that another image has is taken from it.`
)

// runTag is `slipway tag`.
func runTag(args []string, stdout, stderr io.Writer) int {
	c := newStorageCommand("tag", tagSynopsis, tagAbout, stdout, stderr)
	return c.run(args, 2, -1, func(ctx context.Context, s *store.Store, words []string) error {
		end, err := s.Pulling(ctx) // or the image may go before it has the name
		if err != nil {
			return err
		}
		defer end()
		id, err := resolve(s, words[0])
		if err != nil {
			return err
		}
		_, release, err := s.Hold(id)
		if err != nil {
			return err
		}
		defer release()
		for _, w := range words[1:] {
			n, err := image.ParseName(w)
			if err != nil {
				return err
			}
			if n.Tag() == "" {
				return fmt.Errorf("%w: %s: want a name with a tag, not with a digest", errUsage, w)
			}
			if err := s.SetRef(store.Ref{Name: n.String(), Image: id}); err != nil {
				return err
			}
		}
		return nil
	})
}
