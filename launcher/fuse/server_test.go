// SPDX-License-Identifier: Apache-2.0

package fuse

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/launcher/userns"
)

// TestWithCaller maps the caller's ids where they are missing, and nowhere twice.
func TestWithCaller(t *testing.T) {
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	far := userns.Range{Inside: 1, Outside: max(uid, gid) + 100_000, Size: 10}
	for name, tt := range map[string]struct {
		m    userns.Mapping
		adds int
	}{
		"root is the caller": {userns.Mapping{UIDs: []userns.Range{{Outside: uid, Size: 1}, far}, GIDs: []userns.Range{{Outside: gid, Size: 1}, far}}, 0},
		"nobody is":          {userns.Mapping{UIDs: []userns.Range{far}, GIDs: []userns.Range{far}}, 1},
	} {
		got := withCaller(tt.m)
		if len(got.UIDs) != len(tt.m.UIDs)+tt.adds || len(got.GIDs) != len(tt.m.GIDs)+tt.adds {
			t.Errorf("%s: %v", name, got)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(got.UIDs[:len(tt.m.UIDs)], tt.m.UIDs) {
			t.Errorf("%s: the container's own ids became others: %v", name, got)
		}
	}
}

// TestHead keeps one line of what a program says, however much that is.
func TestHead(t *testing.T) {
	h := &head{}
	for range 10 {
		if n, err := h.Write([]byte(strings.Repeat("x", maxOutput/2))); n != maxOutput/2 || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(h.b) > maxOutput {
		t.Errorf("%d bytes are kept, want %d at most", len(h.b), maxOutput)
	}
	h = &head{}
	if _, err := h.Write([]byte("unknown argument ignored: lazytime\nfuse: no\n\nsuch luck\n")); err != nil || h.String() != "fuse: no; such luck" {
		t.Errorf("said %q, %v", h, err)
	}
}

// TestStageWords refuses what Start never says.
func TestStageWords(t *testing.T) {
	if err := serve(make([]string, words)); err == nil {
		t.Error("a stage without lower layers begins")
	}
}
