// SPDX-License-Identifier: Apache-2.0

package unpack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/unpack"
)

// clone clones layers of these entries, the lowest first, with the caller's ids.
func clone(t *testing.T, c unpack.CloneConfig, layers ...[]entry) *place {
	t.Helper()
	for _, l := range layers {
		p := newPlace(t)
		p.must(t, l...)
		c.Layers = append(c.Layers, p.root)
	}
	to := newPlace(t)
	c.Root = to.root
	c.Owner = func(uint32, uint32) (int, int, error) { return os.Getuid(), os.Getgid(), nil }
	if err := unpack.Clone(c); err != nil {
		t.Fatal(err)
	}
	to.untouched(t)
	return to
}

func TestClone(t *testing.T) {
	lower := []entry{
		dir("a/"), file("a/x", "X"), file("a/y", "Y"), dir("b/"), file("b/z", "Z"), dir("c/"), file("c/low", "L"),
		file("f", "F"), symlink("l", "f"), {name: "p", kind: '6'}, file("h1", "H"), hardlink("h2", "h1"), file("e", ""),
	}
	upper := []entry{
		dir("a/"), whiteout("a/.wh.x"), file("a/y", "new"), whiteout(".wh.b"), dir("c/"), whiteout("c/.wh..wh..opq"), file("c/high", "H"),
		dir("f/"), file("f/in", "I"), file("l", "no link"), {name: "h1", mode: 0o4711, content: "own"},
	}
	for _, tt := range []struct {
		name   string
		layers [][]entry
		want   string
	}{
		{"one", [][]entry{lower}, "a/\na/x = X\na/y = Y\nb/\nb/z = Z\nc/\nc/low = L\ne = \nf = F\nh1 = H\nh2 = H\nl -> f\np fifo"},
		{"two", [][]entry{lower, upper}, "a/\na/y = new\nc/\nc/high = H\ne = \nf/\nf/in = I\nh1 = own\nh2 = H\nl = no link\np fifo"},
		{"a third hides all", [][]entry{lower, upper, {whiteout(".wh.a"), whiteout(".wh.c"), whiteout(".wh.e"), whiteout(".wh.f"), whiteout(".wh.h1"), whiteout(".wh.h2"), whiteout(".wh.l"), whiteout(".wh.p")}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := clone(t, unpack.CloneConfig{}, tt.layers...)
			_, got, _ := strings.Cut(to.list(t), "\n")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCloneRedirect clones without content: every file that has some points to it,
// unless it is not for everybody and that matters.
func TestCloneRedirect(t *testing.T) {
	long := strings.Repeat(strings.Repeat("d", 200)+"/", 15) + "file" // more than an attribute can hold
	entries := []entry{
		dir("d/"), file("d/f", "content"), {name: "closed/", kind: '5', mode: 0o700}, file("closed/f", "content"),
		{name: "secret", mode: 0o600, content: "content"}, file("empty", ""),
		file(long, "content"),
	}
	for _, tt := range []struct {
		name    string
		private bool
		want    map[string]string // the redirect; empty for a copy
	}{
		{"all", false, map[string]string{"d/f": "/d/f", "closed/f": "/closed/f", "secret": "/secret", "empty": "", long: ""}},
		{"private", true, map[string]string{"d/f": "/d/f", "closed/f": "", "secret": "", "empty": "", long: ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := clone(t, unpack.CloneConfig{Redirect: true, Private: tt.private}, entries)
			for name, want := range tt.want {
				path := filepath.Join(to.dir, "fs", name)
				buf := make([]byte, 64)
				n, err := unix.Lgetxattr(path, "user.overlay.redirect", buf)
				if got := string(buf[:max(n, 0)]); got != want || (want != "") != (err == nil) {
					t.Errorf("%s points to %q (%v), want %q", name, got, err, want)
				}
				var st unix.Stat_t
				if err := unix.Lstat(path, &st); err != nil {
					t.Fatal(err)
				}
				if name != "empty" && (st.Size != 7 || (st.Blocks == 0) != (want != "") && want == "") {
					t.Errorf("%s has %d bytes in %d blocks", name, st.Size, st.Blocks)
				}
			}
		})
	}
}
