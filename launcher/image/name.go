// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// ErrName is what errors.Is finds in the error of a name that is none.
var ErrName = errors.New("invalid image name")

// Registry names of Docker's own registry: what people write, and what it listens to.
const (
	dockerHub     = "docker.io"
	dockerHubHost = "index.docker.io"
)

// localRegistry is the registry in the names of images that were made on this
// machine, as Podman has it.
const localRegistry = "localhost"

// maxName is the length in bytes of the longest name that is read at all: a registry,
// 255 bytes of repository (OCI distribution specification), a tag of 128 and a digest.
const maxName = 1024

// A Name is a whole name of an image: registry, repository, and a tag or a digest. The
// zero Name is none.
type Name struct {
	ref name.Reference
}

// ParseName parses a name as people write it: without a registry it is of Docker's
// own, without a tag or a digest its tag is "latest". If it has both, the digest
// counts. Its error is an ErrName.
func ParseName(s string) (Name, error) {
	if len(s) > maxName {
		return Name{}, fmt.Errorf("%w: %.40q…: more than %d bytes", ErrName, s, maxName)
	}
	ref, err := name.ParseReference(s)
	if err != nil {
		return Name{}, fmt.Errorf("%w: %q: want [REGISTRY/]NAME[:TAG][@sha256:DIGEST] in lower case", ErrName, s)
	}
	if d, ok := ref.(name.Digest); ok && !strings.HasPrefix(d.DigestStr(), "sha256:") {
		return Name{}, fmt.Errorf("%w: %q: want a digest of sha256", ErrName, s)
	}
	return Name{ref}, nil
}

// IsZero reports whether n is no name.
func (n Name) IsZero() bool { return n.ref == nil }

// String is the whole name, such as "docker.io/library/busybox:latest".
func (n Name) String() string {
	if n.ref == nil {
		return ""
	}
	s := n.ref.Name()
	if rest, ok := strings.CutPrefix(s, dockerHubHost+"/"); ok {
		return dockerHub + "/" + rest
	}
	return s
}

// Repository is the name without its tag or digest.
func (n Name) Repository() string {
	s := n.String()
	if i := strings.IndexByte(s, '@'); i >= 0 {
		return s[:i]
	}
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		return s[:i]
	}
	return s
}

// Tag is the name's tag; empty if it has a digest.
func (n Name) Tag() string {
	if t, ok := n.ref.(name.Tag); ok {
		return t.TagStr()
	}
	return ""
}

// Digest is the name's digest; empty if it has a tag.
func (n Name) Digest() string {
	if d, ok := n.ref.(name.Digest); ok {
		return d.DigestStr()
	}
	return ""
}

// Candidates are the names under which the store may have what a user calls s, in the
// order in which they are tried: a name without a registry may be of an image made on
// this machine, too.
func Candidates(s string) ([]Name, error) {
	n, err := ParseName(s)
	if err != nil {
		return nil, err
	}
	list := []Name{n}
	if first, _, ok := strings.Cut(s, "/"); !ok || !strings.ContainsAny(first, ".:") && first != localRegistry {
		if l, err := ParseName(localRegistry + "/" + s); err == nil {
			list = append(list, l)
		}
	}
	return list, nil
}
