// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
)

// ErrNoSubIDs is what errors.Is finds in an error of a mapping that needs more
// subordinate ids than the caller has, or the tools that map them. The error's text
// says what mends it.
var ErrNoSubIDs = errors.New("no subordinate ids")

// WantIDs is the number of subordinate ids that a container with ordinary users
// needs: nobody is 65534.
const WantIDs = 65536

// An Extent is Size ids that begin with Start.
type Extent struct {
	Start uint32 `json:"start"`
	Size  uint32 `json:"size"`
}

// A Caller is who makes namespaces: its own ids and the subordinate ones. Load makes
// one; the zero Caller is root without any.
type Caller struct {
	Name     string // as subuid(5) has it; empty if the system does not know one
	UID, GID uint32
	SubUIDs  []Extent
	SubGIDs  []Extent
	tools    error // why the mapping tools cannot be used
}

// Load finds out who the calling process is and which subordinate ids it has.
// A caller without any is no error here.
func Load() (Caller, error) {
	c := Caller{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	c.Name = nameOf(c.UID)
	var err error
	if c.SubUIDs, c.SubGIDs, err = subordinate(c.Name, c.UID); err != nil {
		return c, err
	}
	if !direct() {
		c.tools = cmp.Or(lookTool(newUIDMap), lookTool(newGIDMap))
	}
	return c, nil
}

func lookTool(name string) error {
	_, err := exec.LookPath(name)
	return err
}

// Single maps 0 to the caller and nothing else. It needs no subordinate ids.
func (c Caller) Single() Mapping {
	return Mapping{UIDs: []Range{{0, c.UID, 1}}, GIDs: []Range{{0, c.GID, 1}}}
}

// Default maps 0 to the caller and the ids from 1 on to the subordinate ones. Its
// error is an ErrNoSubIDs.
func (c Caller) Default() (Mapping, error) { return c.KeepID(0, 0) }

// KeepID maps uid and gid to the caller, and all other ids to subordinate ones. Its
// error is an ErrNoSubIDs.
func (c Caller) KeepID(uid, gid uint32) (Mapping, error) {
	if err := c.need(max(uid, 1), max(gid, 1)); err != nil {
		return Mapping{}, err
	}
	return Mapping{UIDs: keep(uid, c.UID, c.SubUIDs), GIDs: keep(gid, c.GID, c.SubGIDs)}, nil
}

// keep maps id to own and the ids around it to extents.
func keep(id, own uint32, extents []Extent) []Range {
	below, above := cut(extents, id)
	ranges := append(chain(0, below), Range{id, own, 1})
	return append(ranges, chain(id+1, above)...)
}

// NoMap maps subordinate ids alone, from 0 on. Its error is an ErrNoSubIDs.
func (c Caller) NoMap() (Mapping, error) {
	if err := c.need(1, 1); err != nil {
		return Mapping{}, err
	}
	return Mapping{UIDs: chain(0, c.SubUIDs), GIDs: chain(0, c.SubGIDs)}, nil
}

// Auto maps the ids from 0 on to the slice s of the subordinate ids, which a Pool
// gave out. Its error is an ErrNoSubIDs.
func (c Caller) Auto(s Slice) (Mapping, error) {
	if s.Size == 0 || s.Offset > math.MaxUint32-s.Size {
		return Mapping{}, fmt.Errorf("slice %d+%d of the subordinate ids: out of range", s.Offset, s.Size)
	}
	if err := c.need(s.Offset+s.Size, s.Offset+s.Size); err != nil {
		return Mapping{}, err
	}
	slice := func(extents []Extent) []Range {
		_, rest := cut(extents, s.Offset)
		rest, _ = cut(rest, s.Size)
		return chain(0, rest)
	}
	return Mapping{UIDs: slice(c.SubUIDs), GIDs: slice(c.SubGIDs)}, nil
}

// Available is the number of ids that both kinds of subordinate ids have.
func (c Caller) Available() uint32 { return min(count(c.SubUIDs), count(c.SubGIDs)) }

// need returns an error unless there are so many subordinate ids and the tools.
func (c Caller) need(uids, gids uint32) error {
	if c.tools != nil {
		return fmt.Errorf("%w: %w; to mend it: sudo apt-get install uidmap (shadow-utils on Fedora)", ErrNoSubIDs, c.tools)
	}
	haveU, haveG := count(c.SubUIDs), count(c.SubGIDs)
	if haveU >= uids && haveG >= gids {
		return nil
	}
	return fmt.Errorf("%w: %s has %d subordinate uids and %d gids, want %d and %d; to mend it: %s",
		ErrNoSubIDs, c.who(), haveU, haveG, uids, gids, c.Mend())
}

// Mend is the command that gives the caller WantIDs subordinate ids that nobody has.
func (c Caller) Mend() string {
	start := firstFree()
	end := start + WantIDs - 1
	return fmt.Sprintf("sudo usermod --add-subuids %d-%d --add-subgids %d-%d %s", start, end, start, end, c.who())
}

func (c Caller) who() string {
	if c.Name == "" {
		return fmt.Sprintf("%d", c.UID)
	}
	return c.Name
}
