// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// SliceUnit is what the size of a slice is rounded up to, and the least that one has.
const SliceUnit = 1024

// Names in a pool's directory.
const (
	poolFile = "slices.json"
	poolLock = "slices.lock"
	poolHeld = "slices.held"
)

// maxPoolFile bounds the file in bytes: some ten thousand slices.
const maxPoolFile = 1 << 20

// ErrPoolFull is what errors.Is finds in the error of a Pool that has no slice of the
// size that was asked for.
var ErrPoolFull = errors.New("no free slice of subordinate ids")

// A Slice is Size of the caller's subordinate ids, of both kinds, from the one with
// the number Offset on, counted through all of its ranges.
type Slice struct {
	Offset uint32 `json:"offset"`
	Size   uint32 `json:"size"`
}

// A Pool gives each container a slice of subordinate ids that no other has. Its
// state are files in Dir, which must exist and be the caller's alone; any number of
// processes may use it at once.
type Pool struct {
	Dir string // absolute
	// Others returns the slices of the containers that are there, which run or not, by
	// their owners: what they wrote has these ids. Nil is none.
	Others func() (map[string]Slice, error)
}

// A Lease is a slice that was taken. It is its owner's until Close, or until the process
// ends, and from then on for as long as Pool.Others has it.
type Lease struct {
	Slice
	held *os.File
}

// Close ends the lease.
func (l *Lease) Close() error { return l.held.Close() }

// Take gives owner a slice of at least size ids out of the available ones, rounded up
// to SliceUnit. An owner that has one of that size gets it again, so that what it
// wrote to volumes stays its own.
func (p Pool) Take(owner string, size, available uint32) (_ *Lease, err error) {
	if owner == "" || size > math.MaxUint32-SliceUnit {
		return nil, fmt.Errorf("take a slice of %d subordinate ids for %q: out of range", size, owner)
	}
	want := max(size+SliceUnit-1, SliceUnit) / SliceUnit * SliceUnit
	l := &Lease{}
	if l.held, err = os.OpenFile(filepath.Join(p.Dir, poolHeld), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("take a slice of subordinate ids: %w", err)
	}
	err = p.update(func(taken map[string]Slice) error {
		if err := p.prune(taken, owner, l.held); err != nil {
			return err
		}
		if s, ok := taken[owner]; ok && s.Size >= want && s.Size <= available && s.Offset <= available-s.Size {
			l.Slice = s
			return hold(l.held, s)
		}
		delete(taken, owner)
		var ok bool
		if l.Slice, ok = gap(taken, want, available); !ok {
			return fmt.Errorf("%w: %d of %d for %q, with %d containers on the others; to mend it: remove containers, or give a smaller size=, or: sudo usermod with more --add-subuids and --add-subgids",
				ErrPoolFull, want, available, owner, len(taken))
		}
		taken[owner] = l.Slice
		return hold(l.held, l.Slice)
	})
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// prune takes out of the table what nobody has any more, but for what owner had, and adds
// what the table does not know, as after a reboot.
func (p Pool) prune(taken map[string]Slice, owner string, held *os.File) error {
	var idle []string
	for o, s := range taken {
		if o != owner && !isHeld(held, s) {
			idle = append(idle, o)
		}
	}
	others := map[string]Slice{}
	if p.Others != nil {
		// After the look at who holds one: whoever has let go since is among them, if it stays.
		var err error
		if others, err = p.Others(); err != nil {
			return err
		}
	}
	for _, o := range idle {
		delete(taken, o)
	}
	maps.Copy(taken, others)
	return nil
}

// A slice is held by a lock, which others of its owner may have too, on the byte of its
// offset.
func byteOf(s Slice, kind int16) *unix.Flock_t {
	return &unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: int64(s.Offset), Len: 1}
}

// hold holds s until the file is closed.
func hold(held *os.File, s Slice) error {
	if err := unix.FcntlFlock(held.Fd(), unix.F_OFD_SETLK, byteOf(s, unix.F_RDLCK)); err != nil {
		return fmt.Errorf("hold a slice of subordinate ids: %w", err)
	}
	return nil
}

// isHeld reports whether somebody holds s by another open file. Who cannot tell says so.
func isHeld(held *os.File, s Slice) bool {
	l := byteOf(s, unix.F_WRLCK)
	err := unix.FcntlFlock(held.Fd(), unix.F_OFD_GETLK, l)
	return err != nil || l.Type != unix.F_UNLCK
}

// gap finds the lowest free slice of size ids below available.
func gap(taken map[string]Slice, size, available uint32) (Slice, bool) {
	var used []Slice
	for _, s := range taken {
		used = append(used, s)
	}
	slices.SortFunc(used, func(a, b Slice) int { return int(int64(a.Offset) - int64(b.Offset)) })
	at := uint64(0)
	for _, s := range used {
		if at+uint64(size) <= uint64(s.Offset) {
			break
		}
		at = max(at, uint64(s.Offset)+uint64(s.Size))
	}
	if at+uint64(size) > uint64(available) {
		return Slice{}, false
	}
	return Slice{uint32(at), size}, true
}

// update changes the table under the lock. The table is written anew or not at all.
func (p Pool) update(change func(map[string]Slice) error) error {
	lock, err := os.OpenFile(filepath.Join(p.Dir, poolLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the slices of subordinate ids: %w", err)
	}
	defer lock.Close() // and with it the lock
	if err := flock(lock); err != nil {
		return fmt.Errorf("lock the slices of subordinate ids: %w", err)
	}
	taken, err := p.read()
	if err != nil {
		return err
	}
	if err := change(taken); err != nil {
		return err
	}
	b, err := json.Marshal(taken)
	if err != nil {
		return fmt.Errorf("encode the slices of subordinate ids: %w", err)
	}
	name := filepath.Join(p.Dir, poolFile)
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		return fmt.Errorf("write the slices of subordinate ids: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write the slices of subordinate ids: %w", err)
	}
	return nil
}

// read reads the table; what cannot be read is an error, since a slice given out
// twice would let two containers at each other.
func (p Pool) read() (map[string]Slice, error) {
	taken := make(map[string]Slice)
	f, err := os.Open(filepath.Join(p.Dir, poolFile))
	if os.IsNotExist(err) {
		return taken, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the slices of subordinate ids: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPoolFile))
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		err = json.Unmarshal(b, &taken)
	}
	if err != nil {
		return nil, fmt.Errorf("read the slices of subordinate ids in %s: %w; to mend it: stop all containers and remove the file", f.Name(), err)
	}
	return taken, nil
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			return err
		}
	}
}
