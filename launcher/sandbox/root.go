// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// fsOverlay is overlayfs's name.
const fsOverlay = "overlay"

// userXattr lets overlayfs keep its marks where a user namespace may write them.
// Without it the mount succeeds, and removing a directory of a lower layer fails with
// EIO.
const userXattr = "userxattr"

// volatileLayer lets overlayfs never sync the upper layer.
const volatileLayer = "volatile"

// makeRoot mounts the tmpfs and, in one directory of it, the container's root.
func (s *setup) makeRoot() error {
	at := in(s.host, basePoint)
	if s.o.Base != "" {
		at = place{root: s.host, path: s.o.Base, links: true}
	}
	if err := s.mt.attach(at, parseMount("tmpfs", "slipway", []string{"nosuid", "nodev", "mode=755"})); err != nil {
		return err
	}
	var err error
	if s.base, err = at.open(unix.O_RDONLY | unix.O_DIRECTORY); err != nil {
		return err
	}
	for _, dir := range []string{baseRoot, baseEmpty, baseLayers, baseFiles} {
		if err := unix.Mkdirat(s.base, dir, dirMode); err != nil {
			return fmt.Errorf("make directory %s: %w", dir, err)
		}
	}
	root := in(s.base, baseRoot)
	switch r := &s.o.Root; {
	case r.isHost():
		err = s.bindRoot(root, -1)
	case r.Dir != "":
		err = s.bindRoot(root, s.sources[r.Dir])
	case r.Fuse:
		err = s.fuseRoot(root)
	default:
		err = s.overlayRoot(root)
	}
	if err != nil {
		return err
	}
	if s.root, err = root.open(unix.O_RDONLY | unix.O_DIRECTORY); err != nil {
		return explainFuse(err)
	}
	if s.o.Root.isHost() {
		return s.spreadHost()
	}
	return nil
}

// bindRoot makes the root of a directory of the host, or, of -1, of an empty one.
func (s *setup) bindRoot(root place, dir int) error {
	if dir >= 0 {
		// What is mounted below comes along: it is locked to its place.
		return s.mt.bind(dir, root, 0, true)
	}
	empty, err := root.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(empty)
	return s.mt.bind(empty, root, 0, false)
}

// overlayRoot makes the root of layers.
func (s *setup) overlayRoot(root place) error {
	r := &s.o.Root
	l := layerSet{options: []string{userXattr}}
	for _, p := range r.Lowers {
		l.lowers = append(l.lowers, s.sources[p])
	}
	for _, p := range r.Data {
		l.data = append(l.data, s.sources[p])
	}
	if r.Upper != "" {
		l.upper, l.work = s.sources[r.Upper], s.sources[r.Work]
		if err := ownLayer(l.upper, l.work); err != nil {
			return err
		}
		if r.Volatile {
			l.options = append(l.options, volatileLayer)
		}
		return explainOverlay(s.mt.overlay(root, l))
	}
	upper, work, err := s.throwAway(dirMode)
	if err != nil {
		return err
	}
	defer unix.Close(upper)
	defer unix.Close(work)
	l.upper, l.work = upper, work
	return explainOverlay(s.mt.overlay(root, l))
}

// ownLayer gives a writable layer to the container's root, who may be another than the
// caller that made it. Whose ids are not mapped here has been given it before.
func ownLayer(dirs ...int) error {
	for _, d := range dirs {
		var st unix.Stat_t
		if err := unix.Fstat(d, &st); err != nil {
			return fmt.Errorf("look at the writable layer: %w", err)
		}
		if st.Uid == 0 && st.Gid == 0 {
			continue
		}
		if err := unix.Fchownat(d, "", 0, 0, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("give the writable layer to the container's root: %w", err)
		}
	}
	return nil
}

// throwAway makes an upper layer with the mode and its work directory on the tmpfs.
// The caller closes both.
func (s *setup) throwAway(mode uint32) (upper, work int, err error) {
	fds := [2]int{-1, -1}
	for i, kind := range []string{"upper", "work"} {
		// On the tmpfs, where nobody but us has made anything.
		name := path.Join(baseLayers, kind+strconv.Itoa(s.layers))
		if err := unix.Mkdirat(s.base, name, dirMode); err != nil {
			return -1, -1, fmt.Errorf("make directory %s: %w", name, err)
		}
		if fds[i], err = unix.Openat(s.base, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return -1, -1, fmt.Errorf("open directory %s: %w", name, err)
		}
	}
	s.layers++
	// The merged directory has the owner and mode of the upper one.
	if err := unix.Fchmod(fds[0], mode); err != nil {
		return -1, -1, fmt.Errorf("set the mode of a layer: %w", err)
	}
	return fds[0], fds[1], nil
}

// explainOverlay adds to an error of overlayfs what mends it.
func explainOverlay(err error) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: the kernel has no overlayfs; to mend it: sudo modprobe overlay", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: overlayfs in a user namespace needs Linux 5.11 or later", err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: another container has the layer", err)
	case errors.Is(err, unix.ESTALE):
		return fmt.Errorf("%w: the upper layer was made over other layers", err)
	}
	return err
}

// spreadHost lays the host's root under the container's.
func (s *setup) spreadHost() error {
	split, err := mountParents()
	if err != nil {
		return err
	}
	l := layering{s: s, root: in(s.root, "/"), skip: map[string]bool{}, split: split}
	for _, m := range s.o.Mounts {
		l.skip[path.Clean(m.Destination)] = true
	}
	for _, f := range s.o.Files {
		l.skip[path.Clean(f.Path)] = true
	}
	return explainOverlay(l.spread(s.host, "/"))
}

// readonlyRoot makes the root itself read-only; mounts below it are what they are.
func (s *setup) readonlyRoot() error {
	if !s.o.Root.ReadOnly {
		return nil
	}
	return s.mt.remountReadonly(in(s.root, "/"))
}
