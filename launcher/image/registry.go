// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/slipway-net/slipway/launcher/store"
)

// userAgent is how registries know us.
const userAgent = "slipway"

// ErrAccess is what errors.Is finds in the error of a registry that does not let the
// caller have an image.
var ErrAccess = errors.New("access denied")

// A Registry says how registries are asked.
type Registry struct {
	Auth     Auth
	Platform Platform
	// Insecure allows registries without TLS, or with a certificate that nobody
	// vouches for. Those on this machine need none in any case.
	Insecure bool
}

// Find asks the registry for an image. Its error is a store.ErrNotFound if the registry
// does not have it, and an ErrAccess if it does not say.
func (r Registry) Find(ctx context.Context, n Name) (*Image, error) {
	ref := n.ref
	if r.Insecure {
		var err error
		if ref, err = name.ParseReference(ref.Name(), name.Insecure); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrName, err)
		}
	}
	puller, err := remote.NewPuller(remote.WithAuthFromKeychain(r.Auth), remote.WithUserAgent(userAgent), remote.WithTransport(newTransport(ref.Context().RegistryStr(), r.Insecure)))
	if err != nil {
		return nil, fmt.Errorf("ask the registry: %w", err)
	}
	// What is asked for by digest must be that, too.
	var desc v1.Descriptor
	if d := n.Digest(); d != "" {
		if desc.Digest, err = v1.NewHash(d); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrName, err)
		}
	}
	img, err := fetch(ctx, &repository{puller, ref}, desc, r.Platform)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", n, err)
	}
	img.Names = []Name{n}
	return img, nil
}

// A repository is a registry's, as a blobSource.
type repository struct {
	puller *remote.Puller
	ref    name.Reference // what is asked for where a descriptor has no digest
}

func (r *repository) manifest(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	ref := r.ref
	if d.Digest != (v1.Hash{}) {
		ref = r.ref.Context().Digest(d.Digest.String())
	}
	got, err := r.puller.Get(ctx, ref)
	if err != nil {
		return nil, registryError(err)
	}
	return got.Manifest, nil
}

func (r *repository) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	l, err := r.puller.Layer(ctx, r.ref.Context().Digest(d.Digest.String()))
	if err != nil {
		return nil, registryError(err)
	}
	body, err := l.Compressed()
	if err != nil {
		return nil, registryError(err)
	}
	return body, nil
}

// registryError says what an answer of a registry means.
func registryError(err error) error {
	var terr *transport.Error
	if !errors.As(err, &terr) {
		return fmt.Errorf("ask the registry: %w", err)
	}
	switch terr.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w in the registry", store.ErrNotFound)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: the image is not there, or the credentials for it are missing or wrong: log in with `podman login` or `docker login`", ErrAccess)
	case http.StatusTooManyRequests:
		return fmt.Errorf("the registry asks to wait, as there were too many requests: try again later, or log in: %w", err)
	}
	return fmt.Errorf("ask the registry: %w", err)
}
