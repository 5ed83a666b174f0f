// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Directories that are made before any volume.
const (
	procDir = "/proc"
	devDir  = "/dev"
)

// mount makes one mount of the order.
func (s *setup) mount(m Mount) error {
	ms := parseMount(m.Type, m.Source, m.Options)
	at := in(s.root, m.Destination)
	at.links = ms.volume
	if ms.bind {
		return s.bindHost(m, ms, at)
	}
	target, err := at.makeDir()
	if err != nil {
		// /sys/fs/cgroup is not in every kernel's sysfs.
		if m.Type == "cgroup2" {
			return nil
		}
		return err
	}
	defer unix.Close(target)
	if ms.volume {
		if err := notKernels(target); err != nil {
			return err
		}
	}
	if m.Type == fsOverlay {
		return s.overlayVolume(m, target)
	}
	err = s.mt.attachOn(target, ms)
	if err == nil && ms.filled {
		err = s.fillMounted(at, target)
	}
	switch {
	case err == nil:
		return nil
	case m.Type == "cgroup2" || m.Type == "mqueue":
		// A host without the one, or a kernel without the other, has containers all the same.
		return nil
	case m.Type == "proc" && errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: this process's own /proc is partly hidden; run outside of the container, or with its /proc unmasked", err)
	}
	return err
}

// fillMounted fills the file system that has been mounted at the place, upon the
// directory covered.
func (s *setup) fillMounted(at place, covered int) error {
	top, err := at.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	return s.fresh(top, covered, true, -1)
}

// bindHost binds a file or a directory of the host.
func (s *setup) bindHost(m Mount, ms mountSpec, at place) error {
	source := s.sources[m.Source]
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return fmt.Errorf("look at %s: %w", m.Source, err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	fresh := ms.fresh && isDir && at.isDir() // else the image has nothing there, and it stays as its owner made it
	var err error
	if isDir {
		err = at.mkdir()
	} else {
		err = at.touch()
	}
	if err != nil {
		return err
	}
	target, err := at.open(unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if ms.volume {
		if err := notKernels(target); err != nil {
			return err
		}
	}
	if fresh {
		mark, ok := s.marks[m.Source]
		if !ok {
			mark = -1
		}
		if err := s.fresh(source, target, ms.filled, mark); err != nil {
			return fmt.Errorf("make the volume %s what the image has there: %w", m.Source, err)
		}
	}
	if ms.chown { // what it was filled with, too
		if err := s.chownTree(source, isDir); err != nil {
			return fmt.Errorf("give %s to the container's root: %w", m.Source, err)
		}
	}
	return s.mt.bindOn(source, target, at, ms)
}

// fresh makes an empty volume what the image has in its place: if it is to be filled all
// of it, as its mark says, else the directory's owner and mode.
func (s *setup) fresh(volume, covered int, filled bool, m mark) error {
	dir, err := unix.Openat(volume, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) { // it has been given away already
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if filled && !s.o.Root.isHost() { // what this machine has is no image's
		return fill(dir, covered, m)
	}
	if !isEmpty(dir) {
		return nil
	}
	return likeCovered(dir, covered)
}

// likeCovered gives an open directory the owner and the mode of the one that it is to
// cover: a command that is not root finds there what its image has prepared for it.
func likeCovered(dir, covered int) error {
	var st unix.Stat_t
	if err := unix.Fstat(covered, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	err := unix.Fchown(dir, int(st.Uid), int(st.Gid))
	if err == nil {
		err = unix.Fchmod(dir, st.Mode&modeBits)
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) { // its owner has no id here
		return nil
	}
	return err
}

// overlayVolume shows a directory of the host under a layer that is thrown away.
func (s *setup) overlayVolume(m Mount, target int) error {
	lower := s.sources[m.Source]
	var st unix.Stat_t
	if err := unix.Fstat(lower, &st); err != nil {
		return fmt.Errorf("look at %s: %w", m.Source, err)
	}
	upper, work, err := s.throwAway(st.Mode & modeBits)
	if err != nil {
		return err
	}
	defer unix.Close(upper)
	defer unix.Close(work)
	return explainOverlay(s.mt.overlayOn(target, layerSet{lowers: []int{lower}, upper: upper, work: work, options: []string{userXattr}}))
}

// notKernels refuses a place in a file system through which the kernel takes orders:
// a volume there would stand in for what others trust (CVE-2019-16884). Links in the
// image may lead to one whatever the destination's name is.
func notKernels(at int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(at, &st); err != nil {
		return fmt.Errorf("look at its place: %w", err)
	}
	if st.Type == unix.PROC_SUPER_MAGIC || st.Type == unix.SYSFS_MAGIC {
		return errors.New("a volume cannot be in /proc or /sys")
	}
	return nil
}

// maxTreeDepth bounds how deep chownTree goes; a path that deep has no name.
const maxTreeDepth = 2048

// chownTree gives a tree to root, links themselves and not what they lead to.
func (s *setup) chownTree(fd int, dir bool) error {
	if !dir {
		return unix.Fchownat(fd, "", 0, 0, unix.AT_EMPTY_PATH)
	}
	top, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	return chownBelow(top, maxTreeDepth)
}

func chownBelow(dir, depth int) error {
	if depth == 0 {
		return errors.New("its directories are nested too deep")
	}
	if err := unix.Fchown(dir, 0, 0); err != nil {
		return err
	}
	entries, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			err := unix.Fchownat(dir, e.Name(), 0, 0, unix.AT_SYMLINK_NOFOLLOW)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("%s: %w", e.Name(), err)
			}
			continue
		}
		sub, err := unix.Openat(dir, e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
		err = chownBelow(sub, depth-1)
		unix.Close(sub)
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
	}
	return nil
}
