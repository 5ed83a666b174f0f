// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
)

// Archive writes the archive of a layer, not compressed, to w: the same bytes as it
// was unpacked from, whose number is the layer's Size. Its error is an ErrDigest if
// files of the layer were changed since; w has got other bytes then.
func (s *Store) Archive(ctx context.Context, diffID Digest, w io.Writer) error {
	l, err := s.Layer(diffID)
	if err != nil {
		return err
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer pr.Close()
	sum := sha256.New()
	copied := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(io.MultiWriter(sum, w), struct{ io.Reader }{pr}, make([]byte, copySize/4))
		pr.Close() // if w fails the stage need not go on
		copied <- err
	}()
	stop := context.AfterFunc(ctx, func() { pr.Close() })
	defer stop()
	err = s.ns.call(context.WithoutCancel(ctx), opRebuild, layerArgs{Dir: s.layerName(diffID), Aside: l.Aside}, nil, pw)
	pw.Close()
	cerr := <-copied
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case cerr != nil: // which is why the stage could not go on
		return cerr
	case err != nil:
		return fmt.Errorf("layer %s: %w", diffID.Short(), err)
	case digestOf(sum) != diffID:
		return fmt.Errorf("layer %s: %w: its files were changed", diffID.Short(), ErrDigest)
	}
	return nil
}
