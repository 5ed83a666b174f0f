// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/slipway-net/slipway/launcher/store"
)

// dockerManifestFile lists the images of an archive as `docker save` and `podman save`
// make it.
const dockerManifestFile = "manifest.json"

// A dockerArchive is such an archive.
type dockerArchive struct{ files }

// dockerEntry is an image in manifest.json.
type dockerEntry struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// images lists the images of the archive: all, or the one that is called only.
func (a dockerArchive) images(only string) ([]*Image, error) {
	b, err := readFile(a.files, dockerManifestFile)
	if err != nil {
		return nil, err
	}
	var entries []dockerEntry
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrImage, dockerManifestFile, err)
	}
	var list []*Image
	var sum tally
	for _, e := range entries {
		if only != "" {
			if !slices.ContainsFunc(e.RepoTags, func(t string) bool { return sameName(t, only) }) {
				continue
			}
			e.RepoTags = []string{only}
		}
		img, err := a.image(e)
		if err == nil {
			err = sum.add(img)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, img)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("image %q in the archive: %w", only, store.ErrNotFound)
	}
	return list, nil
}

// sameName reports whether two names are the same when they are whole.
func sameName(a, b string) bool {
	x, err1 := ParseName(a)
	y, err2 := ParseName(b)
	return err1 == nil && err2 == nil && x.String() == y.String()
}

func (a dockerArchive) image(e dockerEntry) (*Image, error) {
	img := &Image{}
	for _, t := range e.RepoTags {
		n, err := ParseName(t)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrImage, dockerManifestFile, err)
		}
		img.Names = append(img.Names, n)
	}
	var err error
	if img.Config, err = readFile(a.files, e.Config); err != nil {
		return nil, fmt.Errorf("%w: configuration: %w", ErrImage, err)
	}
	_, diffIDs, err := parseConfig(img.Config)
	if err != nil {
		return nil, err
	}
	if len(diffIDs) != len(e.Layers) {
		return nil, fmt.Errorf("%w: its configuration has %d layers and %s %d", ErrImage, len(diffIDs), dockerManifestFile, len(e.Layers))
	}
	for i, name := range e.Layers {
		r, size, err := a.open(name)
		if err != nil {
			return nil, fmt.Errorf("%w: layer %d: %w", ErrImage, i, err)
		}
		r.Close()
		img.Layers = append(img.Layers, store.Source{
			DiffID: diffIDs[i], Size: size,
			Open: func(context.Context) (io.ReadCloser, error) {
				r, _, err := a.open(name)
				return r, err
			},
		})
	}
	return img, nil
}
