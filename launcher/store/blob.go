// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
)

// MaxBlob is the size in bytes of the largest blob: a manifest or a configuration.
// The OCI distribution specification asks registries to take manifests of 4 MiB.
const MaxBlob = 4 << 20

func blobName(d Digest) string { return blobDir + "/" + d.Hex() }

// PutBlob keeps b and returns its digest.
func (s *Store) PutBlob(b []byte) (Digest, error) {
	d := DigestOf(b)
	if len(b) > MaxBlob {
		return "", fmt.Errorf("keep %s: %d bytes, more than %d", d.Short(), len(b), MaxBlob)
	}
	if _, err := s.Blob(d); err == nil {
		return d, nil
	}
	return d, s.write(blobName(d), b)
}

// Blob returns the blob with the digest d, verified. Its error is an ErrNotFound if
// the store does not have it.
func (s *Store) Blob(d Digest) ([]byte, error) {
	b, err := s.read(blobName(d), MaxBlob)
	if err != nil {
		return nil, err
	}
	if DigestOf(b) != d {
		return nil, fmt.Errorf("%s: %w: remove it and pull the image again", s.path(blobName(d)), ErrDigest)
	}
	return b, nil
}
