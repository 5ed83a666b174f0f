// SPDX-License-Identifier: Apache-2.0

package unpack_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-net/slipway/launcher/unpack"
)

// FuzzLayer unpacks what a stranger sends. Whatever it is, nothing is touched outside
// of the layer; and what is taken has the digest that it should, and can be made again.
func FuzzLayer(f *testing.F) {
	f.Add(pack(f, dir("a/"), file("a/b", "B"), hardlink("c", "a/b"), symlink("d", "/a")))
	f.Add(pack(f, file("a/b", "1"), file("a", "2"), dir("a/"), file("a/b", "3"), whiteout(".wh.c"), file("c/d", "4")))
	f.Add(pack(f, whiteout("a/.wh.b"), whiteout(".wh..wh..opq"), file("a", "A")))
	f.Add(pack(f, symlink("l", "../.."), file("l/outside", "X")))
	f.Add(pack(f, file("../outside", "X")))
	f.Add(pack(f, entry{name: "x", xattrs: map[string]string{"user.a": "b", "user.overlay.redirect": "/etc"}}))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Add([]byte("BZh9"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		p := newPlace(t)
		info, err := p.unpack(archive)
		p.untouched(t)
		if _, serr := os.Lstat("/outside"); serr == nil {
			t.Fatal("a file was made in the host's root")
		}
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := unpack.Rebuild(&again, unpack.Source{Root: p.root, Aside: p.aside, Recipe: &p.recipe, Paths: info.Aside}); err != nil {
			return // a link on the way to a file was replaced
		}
		if got := fmt.Sprintf("sha256:%x", sha256.Sum256(again.Bytes())); got != info.DiffID {
			t.Errorf("made again it is %s, want %s", got, info.DiffID)
		}
	})
}

// FuzzRebuild reads a recipe that a broken disk may hold.
func FuzzRebuild(f *testing.F) {
	p := newPlace(f)
	info := p.must(f, dir("a/"), file("a/b", "B"), file("a/b", "C"))
	z, err := zstd.NewReader(&p.recipe)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte("b\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Add([]byte("f\x01\x05../..")) // a path that leads out
	f.Fuzz(func(t *testing.T, recipe []byte) {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(recipe); err != nil {
			t.Fatal(err)
		}
		w.Close()
		// Whatever comes of it, it ends.
		_ = unpack.Rebuild(io.Discard, unpack.Source{Root: p.root, Aside: p.aside, Recipe: &b, Paths: info.Aside})
	})
}
