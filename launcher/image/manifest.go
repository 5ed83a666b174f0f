// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/slipway-net/slipway/launcher/store"
)

// maxIndexes is the number of indexes that may lead to a manifest, one to another.
const maxIndexes = 3

// maxLayer bounds what a manifest can say of the size of a layer, in bytes: far beyond
// any, and so that the sizes of MaxLayers have a sum.
const maxLayer = 1 << 40

// A document is a manifest or an index, which of the two its fields tell.
type document struct {
	MediaType types.MediaType `json:"mediaType"`
	Schema    int             `json:"schemaVersion"`
	Config    *v1.Descriptor  `json:"config"`
	Layers    []v1.Descriptor `json:"layers"`
	Manifests []v1.Descriptor `json:"manifests"`
}

// A blobSource has blobs by digest: a registry's repository or a layout.
type blobSource interface {
	// manifest returns a manifest or an index, not verified.
	manifest(ctx context.Context, d v1.Descriptor) ([]byte, error)
	// blob begins to read a blob, not verified.
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
}

// parseDocument parses a manifest or an index. What claims to be one and has the
// fields of the other is refused (CVE-2021-41190).
func parseDocument(b []byte, mediaType types.MediaType) (*document, error) {
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("%w: its manifest: %w", ErrImage, err)
	}
	if d.MediaType == "" {
		d.MediaType = mediaType
	}
	if d.MediaType.IsSchema1() || d.Schema == 1 {
		return nil, fmt.Errorf("%w: its manifest is of schema 1, which has been obsolete since 2017", ErrImage)
	}
	index := d.isIndex()
	if index && (d.Config != nil || len(d.Layers) > 0) || !index && len(d.Manifests) > 0 {
		return nil, fmt.Errorf("%w: its manifest is an index as well", ErrImage)
	}
	if !index && d.Config == nil {
		return nil, fmt.Errorf("%w: its manifest has no configuration", ErrImage)
	}
	return &d, nil
}

func (d *document) isIndex() bool {
	return d.MediaType.IsIndex() || !d.MediaType.IsImage() && d.Config == nil && len(d.Manifests) > 0
}

// fetch reads the manifest that desc describes, or that for the platform if it is an
// index, and the configuration, and verifies them.
func fetch(ctx context.Context, from blobSource, desc v1.Descriptor, p Platform) (*Image, error) {
	img := &Image{}
	for range maxIndexes {
		b, doc, err := fetchDocument(ctx, from, desc)
		if err != nil {
			return nil, err
		}
		img.Digests = append(img.Digests, store.DigestOf(b))
		if !doc.isIndex() {
			img.Manifest = b
			return img, img.fill(ctx, from, doc)
		}
		if desc, err = p.choose(doc.Manifests); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: more than %d indexes lead to it", ErrImage, maxIndexes)
}

func fetchDocument(ctx context.Context, from blobSource, desc v1.Descriptor) ([]byte, *document, error) {
	b, err := from.manifest(ctx, desc)
	if err != nil {
		return nil, nil, err
	}
	if got := store.DigestOf(b); desc.Digest != (v1.Hash{}) && got != store.Digest(desc.Digest.String()) {
		return nil, nil, fmt.Errorf("manifest %s: %w: it is %s", desc.Digest, store.ErrDigest, got)
	}
	doc, err := parseDocument(b, desc.MediaType)
	return b, doc, err
}

// fill reads the configuration and lists the layers.
func (img *Image) fill(ctx context.Context, from blobSource, doc *document) error {
	if t := doc.Config.MediaType; !t.IsConfig() {
		return fmt.Errorf("%w: it holds %.80q, not the files of a container", ErrImage, t)
	}
	digest, err := store.ParseDigest(doc.Config.Digest.String())
	if err != nil {
		return fmt.Errorf("%w: its configuration: %w", ErrImage, err)
	}
	if img.Config, err = readBlob(ctx, from, *doc.Config, digest); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	_, diffIDs, err := parseConfig(img.Config)
	if err != nil {
		return err
	}
	if len(diffIDs) != len(doc.Layers) {
		return fmt.Errorf("%w: its configuration has %d layers and its manifest %d", ErrImage, len(diffIDs), len(doc.Layers))
	}
	for i, l := range doc.Layers {
		d, err := store.ParseDigest(l.Digest.String())
		if err != nil {
			return fmt.Errorf("%w: layer %d: %w", ErrImage, i, err)
		}
		if l.Size < 0 || l.Size > maxLayer {
			return fmt.Errorf("%w: layer %d has a size of %d bytes", ErrImage, i, l.Size)
		}
		l.URLs = nil // a place that the maker of the image chose
		img.Layers = append(img.Layers, store.Source{
			DiffID: diffIDs[i], Digest: d, Size: l.Size,
			Open: func(ctx context.Context) (io.ReadCloser, error) { return from.blob(ctx, l) },
		})
	}
	return nil
}

// readBlob reads a small blob whole and verifies it.
func readBlob(ctx context.Context, from blobSource, desc v1.Descriptor, digest store.Digest) ([]byte, error) {
	if desc.Size < 0 || desc.Size > store.MaxBlob {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrImage, desc.Size, store.MaxBlob)
	}
	r, err := from.blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := readAll(r, store.MaxBlob)
	if err != nil {
		return nil, err
	}
	if got := store.DigestOf(b); got != digest {
		return nil, fmt.Errorf("%w: it is %s, and %s in the manifest", store.ErrDigest, got, digest)
	}
	return b, nil
}

// readAll reads at most limit bytes, and fails if there are more.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return slices.Clip(b.Bytes()), err
}
