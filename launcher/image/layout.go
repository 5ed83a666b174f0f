// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/slipway-net/slipway/launcher/store"
)

// Annotations that name the images of a layout: the OCI's, which is a tag or a whole
// name, and containerd's, which is a whole name.
const (
	annotationRef        = "org.opencontainers.image.ref.name"
	annotationContainerd = "io.containerd.image.name"
)

// Files of a layout (OCI image specification, image-layout.md).
const (
	layoutIndex = "index.json"
	layoutBlobs = "blobs/sha256"
)

// A layout is a directory or an archive as the OCI has it.
type layout struct{ files }

// images lists the images of the layout: all, or the one that is called only.
func (l layout) images(ctx context.Context, only string, p Platform) ([]*Image, error) {
	b, err := l.file(layoutIndex)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%w: index.json: %w", ErrImage, err)
	}
	var list []*Image
	var sum tally
	for _, desc := range index.Manifests {
		called := annotation(desc)
		if only != "" && only != called && only != desc.Digest.String() {
			continue
		}
		if _, err := store.ParseDigest(desc.Digest.String()); err != nil {
			return nil, fmt.Errorf("%w: index.json: %w", ErrImage, err)
		}
		img, err := fetch(ctx, l, desc, p)
		if err != nil {
			return nil, err
		}
		if n, err := ParseName(called); err == nil && called != "" {
			img.Names = []Name{n}
		}
		if err := sum.add(img); err != nil {
			return nil, err
		}
		list = append(list, img)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("image %q in the layout: %w", only, store.ErrNotFound)
	}
	return list, nil
}

// annotation is what an image of a layout is called.
func annotation(d v1.Descriptor) string {
	if n := d.Annotations[annotationContainerd]; n != "" {
		return n
	}
	return d.Annotations[annotationRef]
}

// file reads a small file.
func (l layout) file(name string) ([]byte, error) { return readFile(l.files, name) }

func readFile(f files, name string) ([]byte, error) {
	r, _, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := readAll(r, store.MaxBlob)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// blobPath is where a layout has a blob.
func blobPath(d store.Digest) string { return layoutBlobs + "/" + d.Hex() }

func (l layout) manifest(_ context.Context, d v1.Descriptor) ([]byte, error) {
	digest, err := store.ParseDigest(d.Digest.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	return l.file(blobPath(digest))
}

func (l layout) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	digest, err := store.ParseDigest(d.Digest.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	r, _, err := l.open(blobPath(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: blob %s is missing", ErrImage, digest.Short())
	}
	return r, err
}
