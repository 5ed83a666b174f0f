// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// A mounter attaches file systems to descriptors, never to paths, so that what
// was checked is what is mounted upon. It uses fsopen(2) and its kin (Linux 5.2;
// mount_setattr(2) 5.12), or, where those are missing or filtered, mount(2) with
// the descriptors' names in /proc. The zero mounter uses the former.
type mounter struct {
	legacy bool
	// byPath is set once overlayfs has refused layers as descriptors (before
	// Linux 6.13); they are then given by their names in /proc.
	byPath bool
}

// A mountSpec is a mount's type, source and options, taken apart.
type mountSpec struct {
	fstype, source string
	attr           uint64   // MOUNT_ATTR_*
	data           []string // options of the file system itself
	bind           bool     // source is a path of the host, with what is mounted below
}

// newMounter finds out which of the two interfaces there is.
func newMounter(legacy bool) *mounter {
	if !legacy {
		fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
		legacy = errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
		if err == nil {
			unix.Close(fd)
		}
	}
	return &mounter{legacy: legacy}
}

// parseMount takes the options of a spec's mount apart.
func parseMount(fstype, source string, options []string) mountSpec {
	m := mountSpec{fstype: fstype, source: source}
	for _, o := range options {
		switch o {
		case "bind", "rbind":
			m.bind = true
		case "ro":
			m.attr |= unix.MOUNT_ATTR_RDONLY
		case "nosuid":
			m.attr |= unix.MOUNT_ATTR_NOSUID
		case "nodev":
			m.attr |= unix.MOUNT_ATTR_NODEV
		case "noexec":
			m.attr |= unix.MOUNT_ATTR_NOEXEC
		case "strictatime":
			m.attr |= unix.MOUNT_ATTR_STRICTATIME
		case "rw", "relatime": // what a mount is without a word
		default:
			m.data = append(m.data, o)
		}
	}
	return m
}

// attach mounts a new file system on the directory at.
func (mt *mounter) attach(at place, m mountSpec) error {
	target, err := at.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if mt.legacy {
		return mountOn(m.source, target, m.fstype, legacyFlags(m.attr), strings.Join(m.data, ","))
	}
	fs, err := unix.Fsopen(m.fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open file system %s: %w", m.fstype, err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", m.source); err != nil {
		return fmt.Errorf("set source of %s: %w", m.fstype, err)
	}
	for _, o := range m.data {
		k, v, has := strings.Cut(o, "=")
		if has {
			err = unix.FsconfigSetString(fs, k, v)
		} else {
			err = unix.FsconfigSetFlag(fs, k)
		}
		if err != nil {
			return fmt.Errorf("set option %s of %s: %w", o, m.fstype, err)
		}
	}
	return attachFS(fs, target, m.attr)
}

// overlay mounts on the directory at the overlay of upper over lower, with work
// beside upper. The descriptors are directories opened for reading.
func (mt *mounter) overlay(at place, lower, upper, work int, m mountSpec) error {
	target, err := at.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if mt.legacy {
		data := append([]string{"lowerdir=" + fdPath(lower), "upperdir=" + fdPath(upper), "workdir=" + fdPath(work)}, m.data...)
		return mountOn("overlay", target, "overlay", legacyFlags(m.attr), strings.Join(data, ","))
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open file system overlay: %w", err)
	}
	defer unix.Close(fs)
	for _, o := range m.data {
		if err := unix.FsconfigSetFlag(fs, o); err != nil {
			return fmt.Errorf("set option %s of overlay: %w", o, err)
		}
	}
	layers := []struct {
		key string
		fd  int
	}{{"lowerdir", lower}, {"upperdir", upper}, {"workdir", work}}
	for _, l := range layers {
		if err := mt.layer(fs, l.key, l.fd); err != nil {
			return fmt.Errorf("set %s of overlay: %w", l.key, err)
		}
	}
	return attachFS(fs, target, m.attr)
}

// layer gives the overlay one directory, as a descriptor if the kernel takes it.
func (mt *mounter) layer(fs int, key string, fd int) error {
	if !mt.byPath {
		k := key
		if k == "lowerdir" {
			k = "lowerdir+" // the only form that takes a descriptor
		}
		err := unix.FsconfigSetFd(fs, k, fd)
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
		mt.byPath = true
	}
	return unix.FsconfigSetString(fs, key, fdPath(fd))
}

// bind attaches the tree at source to at, which must both be files or both be
// directories, and adds attr to each mount of it. What is mounted below source
// comes along if deep is set.
func (mt *mounter) bind(source int, at place, attr uint64, deep bool) error {
	target, err := at.open(unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if mt.legacy {
		return bindLegacy(source, target, at, attr, deep)
	}
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	setFlags := uint(unix.AT_EMPTY_PATH)
	if deep {
		flags |= unix.AT_RECURSIVE
		setFlags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(source, "", flags)
	if err != nil {
		return fmt.Errorf("clone mount: %w", err)
	}
	defer unix.Close(tree)
	if attr != 0 {
		if err := unix.MountSetattr(tree, "", setFlags, &unix.MountAttr{Attr_set: attr}); err != nil {
			return fmt.Errorf("set mount attributes: %w", err)
		}
	}
	return moveMount(tree, target)
}

// bindLegacy is bind by mount(2). Attributes reach the topmost mount alone, which
// suffices: deep trees with attributes are the kernel's /sys, whose files the
// container's user does not own.
func bindLegacy(source, target int, at place, attr uint64, deep bool) error {
	flags := uintptr(unix.MS_BIND)
	if deep {
		flags |= unix.MS_REC
	}
	if err := mountOn(fdPath(source), target, "", flags, ""); err != nil {
		return err
	}
	if attr == 0 {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(source, &st); err != nil {
		return fmt.Errorf("look at mount: %w", err)
	}
	// The flags a mount was given by another user namespace must be repeated
	// (mount_namespaces(7), locked flags).
	const locked = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME
	flags = uintptr(st.Flags)&locked | legacyFlags(attr) | unix.MS_REMOUNT | unix.MS_BIND
	// target lies below the new mount; looked up anew, the place is the mount.
	top, err := at.open(unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	return mountOn("", top, "", flags, "")
}

// attachFS makes the configured file system fs and mounts it on target.
func attachFS(fs, target int, attr uint64) error {
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("create file system: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(attr))
	if err != nil {
		return fmt.Errorf("make mount: %w", err)
	}
	defer unix.Close(fd)
	return moveMount(fd, target)
}

func moveMount(fd, target int) error {
	if err := unix.MoveMount(fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach mount: %w", err)
	}
	return nil
}

func mountOn(source string, target int, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, fdPath(target), fstype, flags, data); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// fdPath is the name of a descriptor of this process, for calls that want a path.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// legacyFlags is MOUNT_ATTR_* as mount(2) has them.
func legacyFlags(attr uint64) uintptr {
	var f uintptr
	for _, a := range []struct {
		attr uint64
		flag uintptr
	}{
		{unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY},
		{unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID},
		{unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
		{unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC},
		{unix.MOUNT_ATTR_STRICTATIME, unix.MS_STRICTATIME},
	} {
		if attr&a.attr != 0 {
			f |= a.flag
		}
	}
	return f
}
