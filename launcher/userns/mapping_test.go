// SPDX-License-Identifier: Apache-2.0

package userns_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/launcher/userns"
)

type (
	extents = []userns.Extent
	ranges  = []userns.Range
)

func TestMappings(t *testing.T) {
	t.Parallel()
	one := userns.Caller{Name: "u", UID: 1000, GID: 1001, SubUIDs: extents{{100000, 65536}}, SubGIDs: extents{{200000, 65536}}}
	two := userns.Caller{Name: "u", UID: 1000, GID: 1000, SubUIDs: extents{{100000, 500}, {300000, 1000}}, SubGIDs: extents{{100000, 1500}}}
	none := userns.Caller{Name: "u", UID: 1000, GID: 1000}
	tests := []struct {
		name string
		make func() (userns.Mapping, error)
		want string // "" for ErrNoSubIDs
	}{
		{"default", one.Default, "0:1000:1,1:100000:65536/0:1001:1,1:200000:65536"},
		{"default of two ranges", two.Default, "0:1000:1,1:100000:500,501:300000:1000/0:1000:1,1:100000:1500"},
		{"default of none", none.Default, ""},
		{"single", func() (userns.Mapping, error) { return none.Single(), nil }, "0:1000:1/0:1000:1"},
		{"keep", func() (userns.Mapping, error) { return one.KeepID(1000, 1001) },
			"0:100000:1000,1000:1000:1,1001:101000:64536/0:200000:1001,1001:1001:1,1002:201001:64535"},
		{"keep across ranges", func() (userns.Mapping, error) { return two.KeepID(700, 700) },
			"0:100000:500,500:300000:200,700:1000:1,701:300200:800/0:100000:700,700:1000:1,701:100700:800"},
		{"keep beyond the ranges", func() (userns.Mapping, error) { return two.KeepID(1501, 0) }, ""},
		{"keep at their end", func() (userns.Mapping, error) { return two.KeepID(1500, 0) },
			"0:100000:500,500:300000:1000,1500:1000:1/0:1000:1,1:100000:1500"},
		{"nomap", one.NoMap, "0:100000:65536/0:200000:65536"},
		{"nomap of none", none.NoMap, ""},
		{"auto", func() (userns.Mapping, error) { return one.Auto(userns.Slice{Offset: 1024, Size: 2048}) }, "0:101024:2048/0:201024:2048"},
		{"auto across ranges", func() (userns.Mapping, error) { return two.Auto(userns.Slice{Offset: 400, Size: 200}) },
			"0:100400:100,100:300000:100/0:100400:200"},
		{"auto beyond", func() (userns.Mapping, error) { return one.Auto(userns.Slice{Offset: 65000, Size: 1024}) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := tt.make()
			if tt.want == "" {
				if !errors.Is(err, userns.ErrNoSubIDs) || !strings.Contains(err.Error(), "usermod --add-subuids ") {
					t.Errorf("error %v, want ErrNoSubIDs and what mends it", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.String() != tt.want {
				t.Errorf("mapping %s, want %s", m, tt.want)
			}
			if err := m.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	good := ranges{{0, 1000, 1}, {1, 100000, 65536}}
	for name, bad := range map[string]ranges{
		"none":           nil,
		"empty":          {{0, 1000, 0}},
		"inside twice":   {{0, 1000, 2}, {1, 2000, 1}},
		"outside twice":  {{0, 1000, 2}, {5, 1001, 1}},
		"too long":       {{0, 1000, math.MaxUint32}},
		"the id that is": {{math.MaxUint32, 1000, 1}},
	} {
		if err := (userns.Mapping{UIDs: bad, GIDs: good}).Check(); err == nil {
			t.Errorf("uids %s: no error", name)
		}
		if err := (userns.Mapping{UIDs: good, GIDs: bad}).Check(); err == nil {
			t.Errorf("gids %s: no error", name)
		}
	}
	m := userns.Mapping{UIDs: good, GIDs: good}
	for inside, want := range map[uint32]uint32{0: 1000, 1: 100000, 65536: 165535} {
		if got, ok := m.HostUID(inside); !ok || got != want {
			t.Errorf("host id of %d: %d, %t, want %d", inside, got, ok, want)
		}
	}
	if _, ok := m.HostGID(65537); ok {
		t.Error("an id beyond the mapping has a host id")
	}
}

func TestParseSubIDs(t *testing.T) {
	t.Parallel()
	const file = "# comment\nroot:1:2\nu:100000:65536\nother:200000:65536\n1000:300000:10\nu:bad:1\nu:1:bad\nu:5:0\nu:100100:5\nu:4294967295:1\nu:1:1:1\nu:400000:1"
	want := extents{{100000, 65536}, {300000, 10}, {400000, 1}}
	if diff := cmp.Diff(want, userns.ParseSubIDs(file, "u", 1000)); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	if got := userns.ParseSubIDs(":1:1\n", "", 7); got != nil {
		t.Errorf("a user without a name has %v", got)
	}
}

func FuzzParseSubIDs(f *testing.F) {
	f.Add("u:100000:65536\n1000:1:1\n", "u", uint32(1000))
	f.Add("u:4294967295:4294967295\nu:0:1", "u", uint32(0))
	f.Fuzz(func(t *testing.T, file, name string, uid uint32) {
		e := userns.ParseSubIDs(file, name, uid)
		c := userns.Caller{Name: name, UID: uid, SubUIDs: e, SubGIDs: e}
		m, err := c.NoMap()
		if err == nil && m.Check() != nil {
			t.Errorf("%q: mapping %s: %v", file, m, m.Check())
		}
	})
}

func TestPool(t *testing.T) {
	t.Parallel()
	kept := map[string]userns.Slice{}
	p := userns.Pool{Dir: t.TempDir(), Others: func() (map[string]userns.Slice, error) { return kept, nil }}
	take := func(owner string, size uint32) *userns.Lease {
		t.Helper()
		l, err := p.Take(owner, size, 8192)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	a, b, c := take("a", 0), take("b", 1025), take("c", 1024)
	want := []userns.Slice{{0, 1024}, {1024, 2048}, {3072, 1024}}
	if diff := cmp.Diff(want, []userns.Slice{a.Slice, b.Slice, c.Slice}); diff != "" {
		t.Errorf("slices (-want +got):\n%s", diff)
	}
	again := take("b", 2000)
	if again.Slice != b.Slice {
		t.Errorf("b has %v, and then %v", b.Slice, again.Slice)
	}
	b.Close()
	x := take("x", 2048)
	if x.Slice == b.Slice {
		t.Errorf("x has %v, which b has a second time", x.Slice)
	}
	x.Close()
	again.Close()
	d := take("d", 2048)
	if d.Slice != b.Slice {
		t.Errorf("d has %v, want the free slice %v", d.Slice, b.Slice)
	}
	if _, err := p.Take("e", 4097, 8192); !errors.Is(err, userns.ErrPoolFull) {
		t.Errorf("error %v, want ErrPoolFull", err)
	}
	// What is kept of a container keeps its slice, whether this table knows of it or not.
	kept["a"], kept["old"] = a.Slice, userns.Slice{Offset: 4096, Size: 1024}
	a.Close()
	d.Close()
	if e := take("e", 3072); e.Offset != 5120 {
		t.Errorf("e has %v, want one that neither a nor old has", e.Slice)
	}
	if a := take("a", 1024); a.Offset != 0 {
		t.Errorf("a has %v, and had %v", a.Slice, want[0])
	}
}

// TestPoolIsShared takes slices in parallel: no two may overlap.
func TestPoolIsShared(t *testing.T) {
	t.Parallel()
	p := userns.Pool{Dir: t.TempDir()}
	const takers = 16
	got := make([]userns.Slice, takers)
	var wg sync.WaitGroup
	for i := range takers {
		wg.Go(func() {
			l, err := p.Take(fmt.Sprint(i), 1024, takers*1024)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { l.Close() })
			got[i] = l.Slice
		})
	}
	wg.Wait()
	seen := map[uint32]bool{}
	for _, s := range got {
		if seen[s.Offset] {
			t.Errorf("slice %v was given out twice", s)
		}
		seen[s.Offset] = true
	}
}
