// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"slices"
	"time"

	"github.com/slipway-net/slipway/launcher/store"
	"golang.org/x/sync/errgroup"
)

// parallel is the number of layers that are fetched at the same time, as other tools
// do: registries slow down who asks for more.
const parallel = 3

// An Image is one whose layers are yet to be fetched.
type Image struct {
	Names    []Name         // what it is called; none if nobody says
	Digests  []store.Digest // of the index and the manifest by which it was found
	Manifest []byte         // nil if there is none
	Config   []byte
	Layers   []store.Source // the lowest first
}

// Add puts an image into a store: layers that the store does not have are unpacked,
// some at the same time. What was completed stays when a later layer fails, so that
// another try goes on from there. An image without a Name can be found by its digest
// alone. The caller has called Pulling.
func Add(ctx context.Context, s *store.Store, img *Image, p *Progress) (*store.Image, error) {
	c, diffIDs, err := parseConfig(img.Config)
	if err != nil {
		return nil, err
	}
	layers := make([]*store.Layer, len(img.Layers))
	var missing []store.Source
	for _, src := range img.Layers {
		if _, err := s.Layer(src.DiffID); err != nil {
			missing = append(missing, src)
		}
	}
	p.begin(missing)
	defer p.End()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, src := range img.Layers {
		g.Go(func() (err error) {
			if slices.ContainsFunc(missing, func(m store.Source) bool { return m.DiffID == src.DiffID }) {
				var done func(error)
				src, done = p.watch(src)
				defer func() { done(err) }()
			}
			layers[i], err = s.AddLayer(gctx, src)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	rec := &store.Image{Pulled: time.Now().UTC().Truncate(time.Second), Layers: diffIDs, Config: c.Config, Created: createdAt(c.Created.Time)}
	rec.OS, rec.Arch, rec.Variant = c.OS, c.Architecture, c.Variant
	for _, l := range layers {
		rec.Size += l.Bytes
		rec.MaxUID, rec.MaxGID = max(rec.MaxUID, l.MaxUID), max(rec.MaxGID, l.MaxGID)
	}
	if rec.ID, err = s.PutBlob(img.Config); err != nil {
		return nil, err
	}
	if img.Manifest != nil {
		if rec.Manifest, err = s.PutBlob(img.Manifest); err != nil {
			return nil, err
		}
	}
	release, err := s.PutImage(ctx, rec)
	if err != nil {
		return nil, err
	}
	defer release()
	return rec, setNames(s, rec.ID, img)
}

// createdAt is when an image says it was made; zero for a year that RFC 3339, and so
// JSON, cannot have, which a time zone may lead to.
func createdAt(t time.Time) time.Time {
	t = t.UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// setNames gives the image its names: those by tag, and those by digest that follow.
func setNames(s *store.Store, id store.Digest, img *Image) error {
	for _, n := range img.Names {
		for _, d := range img.Digests {
			whole := n.Repository() + "@" + string(d)
			if err := s.SetRef(store.Ref{Name: whole, Image: id, Implied: whole != n.String()}); err != nil {
				return err
			}
		}
		if n.Tag() != "" {
			if err := s.SetRef(store.Ref{Name: n.String(), Image: id}); err != nil {
				return err
			}
		}
	}
	return nil
}
