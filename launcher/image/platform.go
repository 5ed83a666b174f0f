// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrPlatform is what errors.Is finds in the error of an image that is not for the
// platform.
var ErrPlatform = errors.New("no image for the platform")

// A Platform is what an image is built for. The zero Platform is this machine's.
type Platform struct {
	OS, Arch, Variant string // as Go has them, such as linux, arm64, v8
}

// ParsePlatform parses OS/ARCH[/VARIANT] or ARCH alone.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) == 1 {
		parts = []string{"linux", s}
	}
	if len(parts) > 3 || slices.Contains(parts, "") {
		return Platform{}, fmt.Errorf("platform %q: want OS/ARCH[/VARIANT], such as linux/arm64", s)
	}
	p := Platform{OS: parts[0], Arch: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p.normal(), nil
}

// normal is p with the names that Go has for it.
func (p Platform) normal() Platform {
	switch {
	case p.OS == "":
		p = Platform{OS: "linux", Arch: runtime.GOARCH}
	case p.Arch == "x86_64" || p.Arch == "x86-64":
		p.Arch = "amd64"
	case p.Arch == "aarch64":
		p.Arch = "arm64"
	}
	if p.Arch == "arm64" && p.Variant == "v8" || p.Arch == "amd64" && p.Variant == "v1" {
		p.Variant = "" // what it is without a word
	}
	return p
}

// String is p in the form that ParsePlatform parses.
func (p Platform) String() string {
	s := p.OS + "/" + p.Arch
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// runs reports whether what is built for o can be run on p, and how well it fits:
// the exact variant best, then the nearest lower one, then one that is not named.
func (p Platform) runs(o Platform) (rank int, ok bool) {
	switch {
	case p.OS != o.OS || p.Arch != o.Arch:
		return 0, false
	case p.Variant == o.Variant:
		return math.MaxInt, true
	case o.Variant == "":
		return 0, true
	case p.Arch == "arm" && p.Variant == "":
		return 1, true
	case p.Arch == "arm" && p.Variant > o.Variant: // v5, v6, v7, v8
		return int(o.Variant[len(o.Variant)-1]), true
	}
	return 0, false
}

// choose returns the manifest of an index that fits p best, of several the first.
func (p Platform) choose(manifests []v1.Descriptor) (v1.Descriptor, error) {
	p = p.normal()
	best := -1
	var chosen v1.Descriptor
	var others []string
	for _, m := range manifests {
		if m.Platform == nil {
			continue
		}
		o := Platform{m.Platform.OS, m.Platform.Architecture, m.Platform.Variant}.normal()
		rank, ok := p.runs(o)
		if !ok {
			if o.OS != "unknown" && len(others) < 20 { // what BuildKit says of attestations; a line, not a page
				others = append(others, o.String())
			}
			continue
		}
		if rank > best {
			best, chosen = rank, m
		}
	}
	if best >= 0 {
		return chosen, nil
	}
	if len(manifests) == 1 && manifests[0].Platform == nil {
		return manifests[0], nil
	}
	return v1.Descriptor{}, fmt.Errorf("%w %s: there are %.400q", ErrPlatform, p, others)
}
