// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/slipway-net/slipway/launcher/unpack"
	"github.com/slipway-net/slipway/launcher/userns"
	"golang.org/x/sys/unix"
)

// Roots are the layers of an image for a mapping of ids.
type Roots struct {
	Lowers []string // lower directories of an overlay, the topmost first
	Data   []string // data-only ones below them
}

// shiftMeta is the meta.json of a clone.
type shiftMeta struct {
	Boot     string `json:"boot"`
	Redirect bool   `json:"redirect"`
}

// Lowers returns the layers of an image with the owners that its files have under the
// mapping m. For the store's own mapping those are its layers. For any other they are
// cloned once: without their content, if redirect says that overlayfs takes data-only
// layers here, else with it. copied is called with the number of bytes that were
// copied, now and then; nil for nobody. The caller holds the image.
func (s *Store) Lowers(ctx context.Context, i *Image, m userns.Mapping, redirect bool, copied func(n int64)) (Roots, error) {
	var layers []string
	for _, d := range slices.Backward(i.Layers) {
		layers = append(layers, s.LayerDir(d))
	}
	if m.Equal(s.Mapping) || m.IsZero() {
		return Roots{Lowers: s.withGround(layers)}, nil
	}
	name := shiftName(i.ID, m, redirect)
	if err := s.shift(ctx, i, m, name, redirect, copied); err != nil {
		return Roots{}, fmt.Errorf("give the files of image %s other owners: %w", i.ID.Short(), err)
	}
	r := Roots{Lowers: []string{s.path(name, layerFiles)}}
	if redirect {
		r.Data = layers
	}
	return r, nil
}

// shiftName is where the clone of an image is. Both kinds may be there at a time: after
// another kernel was booted.
func shiftName(id Digest, m userns.Mapping, redirect bool) string {
	kind := "copy"
	if redirect {
		kind = "meta"
	}
	return path.Join(shiftDir, id.Hex()+"-"+mappingKey(m)+"-"+kind)
}

// shift makes the clone unless it is there.
func (s *Store) shift(ctx context.Context, i *Image, m userns.Mapping, name string, redirect bool, copied func(n int64)) error {
	if s.shifted(name) {
		return nil
	}
	base := path.Base(name)
	lock, err := lockFile(ctx, s.path(lockDir, base), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.remove()
	if s.shifted(name) {
		return nil
	}
	stage := path.Join(tmpDir, base)
	if err := errors.Join(s.remove(ctx, stage), s.discard(ctx, name)); err != nil {
		return err
	}
	args := shiftArgs{Dir: stage, Store: s.Mapping, Target: m, Redirect: redirect}
	for _, d := range i.Layers {
		args.Layers = append(args.Layers, path.Join(s.layerName(d), layerFiles))
	}
	err = s.clone(args, lock, copied)
	if err == nil {
		err = s.writeJSON(path.Join(stage, layerMeta), shiftMeta{Boot: s.boot(), Redirect: redirect})
	}
	if err == nil { // the store may be older than such clones
		err = os.MkdirAll(s.path(shiftDir), 0o700)
	}
	if err == nil {
		err = os.Rename(s.path(stage), s.path(name))
	}
	if err != nil {
		return errors.Join(err, s.remove(context.WithoutCancel(ctx), stage))
	}
	return nil
}

// CopyRoot returns a directory with all files of an image under the mapping m, which is
// the container's own: where there is no overlayfs. It is made once for w.
func (s *Store) CopyRoot(ctx context.Context, w *Writable, i *Image, m userns.Mapping, copied func(n int64)) (string, error) {
	name := path.Join(writableDir, w.Name, writableRoot)
	done := path.Join(writableDir, w.Name, "copied")
	if _, err := os.Lstat(s.path(done)); err == nil {
		return s.path(name, layerFiles), nil
	}
	if err := s.remove(ctx, name); err != nil {
		return "", err
	}
	args := shiftArgs{Dir: name, Store: s.Mapping, Target: m}
	for _, d := range i.Layers {
		args.Layers = append(args.Layers, path.Join(s.layerName(d), layerFiles))
	}
	err := s.clone(args, w.lock, copied)
	if err == nil {
		err = s.mark(done)
	}
	if err != nil {
		return "", fmt.Errorf("copy image %s: %w", i.ID.Short(), err)
	}
	return s.path(name, layerFiles), nil
}

// shifted reports whether the clone is there and whole. One of another boot may not be
// on the disk, and is made anew.
func (s *Store) shifted(name string) bool {
	var m shiftMeta
	return s.readJSON(path.Join(name, layerMeta), &m) == nil && s.written(m.Boot, layerMark(name))
}

// clone has the stage make the clone, and passes on what it tells of its progress.
func (s *Store) clone(args shiftArgs, lock *lock, copied func(n int64)) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	told := make(chan struct{})
	go func() {
		defer close(told)
		for b := bufio.NewReader(r); ; {
			var n int64
			if _, err := fmt.Fscanln(b, &n); err != nil {
				return
			}
			if copied != nil {
				copied(n)
			}
		}
	}()
	err = s.ns.call(context.Background(), opShift, args, nil, w, lock.f)
	w.Close()
	r.Close()
	<-told
	return err
}

// shiftArgs are those of opShift.
type shiftArgs struct {
	Dir      string         `json:"dir"`    // which is made
	Layers   []string       `json:"layers"` // the lowest first
	Store    userns.Mapping `json:"store"`  // of the stage
	Target   userns.Mapping `json:"target"`
	Redirect bool           `json:"redirect"`
}

// shiftTell is the number of bytes that are copied between two lines of progress.
const shiftTell = 4 << 20

// serveShift makes a clone.
func serveShift(dir *os.Root, raw json.RawMessage, progress *os.File) (any, error) {
	var args shiftArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, err
	}
	if err := dir.Mkdir(args.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := dir.Mkdir(path.Join(args.Dir, layerFiles), 0o755); err != nil {
		return nil, err
	}
	root, err := dir.Open(path.Join(args.Dir, layerFiles))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	c := unpack.CloneConfig{Root: root, Owner: args.owner, Redirect: args.Redirect, Private: !covers(args.Target, args.Store)}
	capRoot, _, err := args.owner(0, 0)
	if err != nil {
		return nil, err
	}
	c.CapRoot = uint32(capRoot)
	for _, l := range args.Layers {
		f, err := dir.Open(l)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		c.Layers = append(c.Layers, f)
	}
	var n int64
	c.Copied = func(k int64) {
		if n += k; n >= shiftTell {
			_, _ = fmt.Fprintln(progress, n) // for show alone
			n = 0
		}
	}
	return nil, unpack.Clone(c)
}

// owner is what the owner of a file is in the stage's namespace when it is to be uid
// and gid under the target mapping.
func (a *shiftArgs) owner(uid, gid uint32) (int, int, error) {
	if a.Target.IsSingle() {
		uid, gid = a.Target.UIDs[0].Inside, a.Target.GIDs[0].Inside // nobody else is there
	}
	u, uok := a.Target.HostUID(uid)
	g, gok := a.Target.HostGID(gid)
	if uok && gok {
		u, uok = inside(a.Store.UIDs, u)
		g, gok = inside(a.Store.GIDs, g)
	}
	if !uok || !gok {
		return 0, 0, fmt.Errorf("%w: uid %d, gid %d", unpack.ErrOwner, uid, gid)
	}
	return int(u), int(g), nil
}

// inside is what an id of the host is in a namespace.
func inside(ranges []userns.Range, id uint32) (uint32, bool) {
	for _, r := range ranges {
		if id >= r.Outside && id-r.Outside < r.Size {
			return r.Inside + (id - r.Outside), true
		}
	}
	return 0, false
}

// covers reports whether every id of the host that part has is one of whole, too.
func covers(whole, part userns.Mapping) bool {
	return coversRanges(whole.UIDs, part.UIDs) && coversRanges(whole.GIDs, part.GIDs)
}

func coversRanges(whole, part []userns.Range) bool {
	whole = slices.SortedFunc(slices.Values(whole), func(a, b userns.Range) int { return cmp.Compare(a.Outside, b.Outside) })
	for _, p := range part {
		next, end := uint64(p.Outside), uint64(p.Outside)+uint64(p.Size)
		for _, w := range whole {
			if uint64(w.Outside) <= next && next < uint64(w.Outside)+uint64(w.Size) {
				next = uint64(w.Outside) + uint64(w.Size)
			}
		}
		if next < end {
			return false
		}
	}
	return true
}
