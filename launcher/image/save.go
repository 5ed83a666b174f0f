// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/slipway-net/slipway/launcher/store"
)

// A Saved is an image to be saved, and what it is to be called.
type Saved struct {
	ID    store.Digest
	Names []Name
}

// Save writes images to w as one archive that is of Docker's kind and an OCI layout
// as well, so that every tool can load it. Layers are not compressed: their archives,
// and so the images, are bit for bit what they were.
func Save(ctx context.Context, s *store.Store, images []Saved, w io.Writer) error {
	a := &saver{store: s, tw: tar.NewWriter(w), has: map[store.Digest]bool{}}
	a.index.SchemaVersion, a.index.MediaType = 2, types.OCIImageIndex
	for _, dir := range []string{"blobs/", layoutBlobs + "/"} { // some tools cannot do without
		if err := a.tw.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return fmt.Errorf("save images: %w", err)
		}
	}
	for _, i := range images {
		if err := a.image(ctx, i); err != nil {
			return fmt.Errorf("save image %s: %w", i.ID.Short(), err)
		}
	}
	for _, f := range []struct {
		name string
		v    any
	}{
		{layoutIndex, a.index},
		{dockerManifestFile, a.entries},
		{"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}},
	} {
		b, err := json.Marshal(f.v)
		if err == nil {
			err = a.file(f.name, b)
		}
		if err != nil {
			return fmt.Errorf("save %s: %w", f.name, err)
		}
	}
	return a.tw.Close()
}

// A saver is an archive that is being written.
type saver struct {
	store   *store.Store
	tw      *tar.Writer
	has     map[store.Digest]bool // blobs that are written
	index   v1.IndexManifest
	entries []dockerEntry
}

// image writes what belongs to one image, and notes it in both lists.
func (a *saver) image(ctx context.Context, i Saved) error {
	rec, err := a.store.Image(i.ID)
	if err != nil {
		return err
	}
	config, err := a.store.Blob(i.ID)
	if err != nil {
		return err
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: descriptor(types.OCIConfigJSON, i.ID, int64(len(config)))}
	entry := dockerEntry{Config: blobPath(i.ID), RepoTags: []string{}, Layers: []string{}}
	for _, d := range rec.Layers {
		l, err := a.store.Layer(d)
		if err != nil {
			return err
		}
		if err := a.layer(ctx, d, l.Size); err != nil {
			return err
		}
		m.Layers = append(m.Layers, descriptor(types.OCIUncompressedLayer, d, l.Size))
		entry.Layers = append(entry.Layers, blobPath(d))
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := a.blob(i.ID, config); err != nil {
		return err
	}
	if err := a.blob(store.DigestOf(manifest), manifest); err != nil {
		return err
	}
	a.note(i, descriptor(types.OCIManifestSchema1, store.DigestOf(manifest), int64(len(manifest))), entry)
	return nil
}

// note lists an image: once for each of its names.
func (a *saver) note(i Saved, d v1.Descriptor, entry dockerEntry) {
	d.Platform = nil
	if len(i.Names) == 0 {
		a.index.Manifests = append(a.index.Manifests, d)
	}
	for _, n := range i.Names {
		d.Annotations = map[string]string{annotationRef: n.String(), annotationContainerd: n.String()}
		a.index.Manifests = append(a.index.Manifests, d)
		if n.Tag() != "" {
			entry.RepoTags = append(entry.RepoTags, n.String())
		}
	}
	a.entries = append(a.entries, entry)
}

func descriptor(t types.MediaType, d store.Digest, size int64) v1.Descriptor {
	return v1.Descriptor{MediaType: t, Digest: v1.Hash{Algorithm: "sha256", Hex: d.Hex()}, Size: size}
}

// layer writes a layer, unless it is there already.
func (a *saver) layer(ctx context.Context, d store.Digest, size int64) error {
	if a.has[d] {
		return nil
	}
	a.has[d] = true
	if err := a.header(blobPath(d), size); err != nil {
		return err
	}
	return a.store.Archive(ctx, d, a.tw)
}

// blob writes a small blob, unless it is there already.
func (a *saver) blob(d store.Digest, b []byte) error {
	if a.has[d] {
		return nil
	}
	a.has[d] = true
	return a.file(blobPath(d), b)
}

func (a *saver) file(name string, b []byte) error {
	if err := a.header(name, int64(len(b))); err != nil {
		return err
	}
	_, err := a.tw.Write(b)
	return err
}

func (a *saver) header(name string, size int64) error {
	return a.tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size})
}
