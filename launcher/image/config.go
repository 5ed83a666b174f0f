// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/slipway-net/slipway/launcher/store"
)

// MaxLayers is the number of layers that an image may have: overlayfs takes 500 lower
// directories (OVL_MAX_STACK in fs/overlayfs/params.h), of which some are for what
// else a container has.
const MaxLayers = 450

// ErrImage is what errors.Is finds in the error of an image that is none, or none for
// containers of Linux.
var ErrImage = errors.New("not a usable image")

// parseConfig parses an image's configuration, and returns the digests of its layers'
// archives, the lowest first.
func parseConfig(b []byte) (*v1.ConfigFile, []store.Digest, error) {
	var c v1.ConfigFile
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, nil, fmt.Errorf("%w: its configuration: %w", ErrImage, err)
	}
	if c.OS != "linux" {
		return nil, nil, fmt.Errorf("%w: it is for %.40q, want linux", ErrImage, c.OS)
	}
	if c.RootFS.Type != "layers" {
		return nil, nil, fmt.Errorf("%w: its root is of type %.40q, want layers", ErrImage, c.RootFS.Type)
	}
	if n := len(c.RootFS.DiffIDs); n > MaxLayers {
		return nil, nil, fmt.Errorf("%w: %d layers, more than %d", ErrImage, n, MaxLayers)
	}
	var layers []store.Digest
	for _, d := range c.RootFS.DiffIDs {
		digest, err := store.ParseDigest(d.String())
		if err != nil {
			return nil, nil, fmt.Errorf("%w: its configuration: %w", ErrImage, err)
		}
		layers = append(layers, digest)
	}
	return &c, layers, nil
}
