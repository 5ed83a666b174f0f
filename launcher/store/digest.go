// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// ErrDigest is what errors.Is finds in the error of content that is not what its
// digest says.
var ErrDigest = errors.New("wrong digest")

// algorithm begins every digest: no registry or tool makes images with another.
const algorithm = "sha256:"

// hexSize is the length of a digest's hexadecimal part.
const hexSize = 2 * sha256.Size

// A Digest is a content's SHA-256 in the form "sha256:HEX" (OCI image specification,
// descriptor.md). The zero Digest is none.
type Digest string

// ParseDigest returns the digest that s is. It takes no other algorithm, and no
// upper case.
func ParseDigest(s string) (Digest, error) {
	h, ok := strings.CutPrefix(s, algorithm)
	if !ok || !isHex(h) || len(h) != hexSize {
		return "", fmt.Errorf("digest %.100q: want sha256: and %d lower-case hexadecimal digits", s, hexSize)
	}
	return Digest(s), nil
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// DigestOf is the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(algorithm + hex.EncodeToString(sum[:]))
}

// digestOf is the digest of what was written to h.
func digestOf(h hash.Hash) Digest { return Digest(algorithm + hex.EncodeToString(h.Sum(nil))) }

// Hex is the digest without its algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), algorithm) }

// Short is enough of the digest for people to tell images apart: twelve digits, as
// other tools show.
func (d Digest) Short() string { return d.Hex()[:min(12, len(d.Hex()))] }
