// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-net/slipway/launcher/image"
)

// FuzzParseName parses what a user types or an archive calls its images. A whole name
// is parsed as itself.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"busybox", "a/b:c", "localhost:5000/x@sha256:" + string(make([]byte, 64)), "docker.io/library/x:y", "", ":", "@", "UPPER", "a//b", "../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := image.ParseName(s)
		if err != nil {
			return
		}
		again, err := image.ParseName(n.String())
		if err != nil || again.String() != n.String() {
			t.Errorf("%q is %q, and that is %q (%v)", s, n, again, err)
		}
		if n.Repository() == "" || (n.Tag() == "") == (n.Digest() == "") {
			t.Errorf("%q is repository %q, tag %q, digest %q", s, n.Repository(), n.Tag(), n.Digest())
		}
	})
}

// FuzzArchive opens archives of images that a stranger made.
func FuzzArchive(f *testing.F) {
	f.Add([]byte("manifest.json"))
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "archive")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		l, err := image.OpenArchive(file, t.TempDir())
		if err != nil {
			return
		}
		defer l.Close()
		_, _ = l.Images(t.Context(), "", image.Platform{}) // whatever comes of it, it ends
	})
}
