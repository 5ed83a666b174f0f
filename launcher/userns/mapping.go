// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxRanges is the number of lines that uid_map takes (UID_GID_MAP_MAX_EXTENTS in
// include/linux/user_namespace.h).
const maxRanges = 340

// A Range maps Size ids that begin with Inside in the namespace to those that begin
// with Outside in its parent.
type Range struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Size    uint32 `json:"size"`
}

// A Mapping is what the ids of a user namespace are outside of it. The zero Mapping
// maps none. Its ranges do not overlap on either side.
type Mapping struct {
	UIDs []Range `json:"uids"`
	GIDs []Range `json:"gids"`
}

// IsZero reports whether m maps nothing.
func (m Mapping) IsZero() bool { return len(m.UIDs) == 0 && len(m.GIDs) == 0 }

// Equal reports whether m and o are the same ranges in the same order.
func (m Mapping) Equal(o Mapping) bool {
	return slices.Equal(m.UIDs, o.UIDs) && slices.Equal(m.GIDs, o.GIDs)
}

// IsSingle reports whether m maps no more than one uid and one gid, so that no file
// can belong to anyone else.
func (m Mapping) IsSingle() bool { return single(m.UIDs) && single(m.GIDs) }

func single(ranges []Range) bool { return len(ranges) == 1 && ranges[0].Size == 1 }

// String is m in the form uid_map(5) has, with commas, such as
// "0:1000:1,1:100000:65536/0:1000:1,1:100000:65536"; equal mappings have the same.
func (m Mapping) String() string { return text(m.UIDs) + "/" + text(m.GIDs) }

func text(ranges []Range) string {
	var b strings.Builder
	for i, r := range ranges {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d:%d:%d", r.Inside, r.Outside, r.Size)
	}
	return b.String()
}

// HostUID returns the id that uid of the namespace is outside of it.
func (m Mapping) HostUID(uid uint32) (uint32, bool) { return outside(m.UIDs, uid) }

// HostGID returns the id that gid of the namespace is outside of it.
func (m Mapping) HostGID(gid uint32) (uint32, bool) { return outside(m.GIDs, gid) }

func outside(ranges []Range, id uint32) (uint32, bool) {
	for _, r := range ranges {
		if id >= r.Inside && id-r.Inside < r.Size {
			return r.Outside + (id - r.Inside), true
		}
	}
	return 0, false
}

// Check returns an error for a mapping that no kernel takes.
func (m Mapping) Check() error {
	if err := checkRanges(m.UIDs); err != nil {
		return fmt.Errorf("uid mapping %s: %w", text(m.UIDs), err)
	}
	if err := checkRanges(m.GIDs); err != nil {
		return fmt.Errorf("gid mapping %s: %w", text(m.GIDs), err)
	}
	return nil
}

func checkRanges(ranges []Range) error {
	if len(ranges) == 0 || len(ranges) > maxRanges {
		return fmt.Errorf("%d ranges, want 1 to %d", len(ranges), maxRanges)
	}
	for i, r := range ranges {
		if r.Size == 0 || r.Inside > math.MaxUint32-r.Size || r.Outside > math.MaxUint32-r.Size {
			return errors.New("a range is empty or too long")
		}
		for _, o := range ranges[:i] {
			if overlap(r.Inside, r.Size, o.Inside, o.Size) || overlap(r.Outside, r.Size, o.Outside, o.Size) {
				return errors.New("two ranges overlap")
			}
		}
	}
	return nil
}

func overlap(a, na, b, nb uint32) bool { return a < b+nb && b < a+na }

// chain maps consecutive ids from inside on to the extents, one after the other.
func chain(inside uint32, extents []Extent) []Range {
	var ranges []Range
	for _, e := range extents {
		if e.Size == 0 {
			continue
		}
		ranges = append(ranges, Range{Inside: inside, Outside: e.Start, Size: e.Size})
		inside += e.Size
	}
	return ranges
}

// cut divides extents after n ids.
func cut(extents []Extent, n uint32) (before, after []Extent) {
	for _, e := range extents {
		k := min(n, e.Size)
		if k > 0 {
			before = append(before, Extent{e.Start, k})
		}
		if k < e.Size {
			after = append(after, Extent{e.Start + k, e.Size - k})
		}
		n -= k
	}
	return before, after
}

// count is the number of ids in extents.
func count(extents []Extent) uint32 {
	var n uint32
	for _, e := range extents {
		n += min(e.Size, math.MaxUint32-n)
	}
	return n
}
