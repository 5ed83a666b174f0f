// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMaps(t *testing.T) {
	const maps = `00400000-009c5000 r-xp 00000000 fe:00 42                             /usr/local/bin/slip way
009c5000-00ff9000 r--p 005c5000 fe:00 42                             /usr/local/bin/slip way
00ff9000-0105b000 rw-p 00bf9000 fe:00 42                             /usr/local/bin/slip way
0105b000-010a0000 rw-p 00000000 00:00 0
c000000000-c000400000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r-xp 00000000 fe:00 43                     /usr/lib/other
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                      [vdso]
wrong-00002000 r-xp 00000000 fe:00 42 /usr/local/bin/slip way
`
	got := parseMaps(strings.NewReader(maps), "/usr/local/bin/slip way")
	want := footprint{{0x400000, 0x9c5000}, {0x9c5000, 0xff9000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(span{})); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
}

// TestFootprintDrop goes on after its own code was dropped.
func TestFootprintDrop(t *testing.T) {
	f := takeFootprint()
	if len(f) == 0 {
		t.Fatal("the program is not found in its own memory")
	}
	f.drop()
	if got := takeFootprint(); len(got) != len(f) {
		t.Errorf("there are %d mappings, there were %d", len(got), len(f))
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add("00400000-009c5000 r-xp 00000000 fe:00 42 /a\n")
	f.Fuzz(func(t *testing.T, s string) {
		for _, m := range parseMaps(strings.NewReader(s), "/a") {
			if m.start >= m.end {
				t.Errorf("a mapping from %#x to %#x", m.start, m.end)
			}
		}
	})
}
