// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"strconv"
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
	// Linux 6.13); overlays are then mounted by mount(2).
	byPath bool
}

// A layerSet is what an overlay is made of: directories opened for reading.
type layerSet struct {
	lowers, data []int // topmost first
	upper, work  int
	options      []string // flags of overlayfs
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

// attach mounts a new file system on the directory at.
func (mt *mounter) attach(at place, m mountSpec) error {
	target, err := at.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return mt.attachOn(target, m)
}

// attachOn is attach upon the open directory target.
func (mt *mounter) attachOn(target int, m mountSpec) error {
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
		if err := setOption(fs, o); err != nil {
			return fmt.Errorf("set option %s of %s: %w", o, m.fstype, err)
		}
	}
	return attachFS(fs, target, m.attr)
}

// setOption sets KEY=VALUE or a flag.
func setOption(fs int, option string) error {
	if k, v, has := strings.Cut(option, "="); has {
		return unix.FsconfigSetString(fs, k, v)
	}
	return unix.FsconfigSetFlag(fs, option)
}

// overlay mounts an overlay on the directory at.
func (mt *mounter) overlay(at place, l layerSet) error {
	target, err := at.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return mt.overlayOn(target, l)
}

// overlayOn is overlay upon the open directory target.
func (mt *mounter) overlayOn(target int, l layerSet) error {
	if !mt.legacy && !mt.byPath {
		err := overlayByFD(target, l)
		if !errors.Is(err, errNoLayerFDs) {
			return err
		}
		mt.byPath = true
	}
	return overlayByPath(target, l)
}

// errNoLayerFDs is the error of a kernel that takes no layers as descriptors.
var errNoLayerFDs = errors.New("overlayfs takes no descriptors")

func overlayByFD(target int, l layerSet) error {
	fs, err := unix.Fsopen(fsOverlay, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open file system overlay: %w", err)
	}
	defer unix.Close(fs)
	for _, o := range l.options {
		if err := setOption(fs, o); err != nil {
			return fmt.Errorf("set option %s of overlay: %w", o, err)
		}
	}
	set := func(key string, fds ...int) error {
		for _, fd := range fds {
			err := unix.FsconfigSetFd(fs, key, fd)
			if errors.Is(err, unix.EINVAL) && fd == l.lowers[0] {
				return errNoLayerFDs
			}
			if err != nil {
				return fmt.Errorf("set %s of overlay: %w", key, err)
			}
		}
		return nil
	}
	if err := set("lowerdir+", l.lowers...); err != nil {
		return err
	}
	if err := set("datadir+", l.data...); err != nil {
		return err
	}
	if err := set("upperdir", l.upper); err != nil {
		return err
	}
	if err := set("workdir", l.work); err != nil {
		return err
	}
	return attachFS(fs, target, 0)
}

// overlayByPath mounts by mount(2), whose options have to fit into a page.
func overlayByPath(target int, l layerSet) error {
	var lower strings.Builder
	lower.WriteString("lowerdir=")
	for i, fd := range l.lowers {
		if i > 0 {
			lower.WriteByte(':')
		}
		lower.WriteString(fdPath(fd))
	}
	for _, fd := range l.data {
		lower.WriteString("::" + fdPath(fd))
	}
	options := append([]string{lower.String(), "upperdir=" + fdPath(l.upper), "workdir=" + fdPath(l.work)}, l.options...)
	data := strings.Join(options, ",")
	if len(data) >= unix.Getpagesize() {
		return fmt.Errorf("mount overlay: %d layers are too many for this kernel; Linux 6.13 takes 500", len(l.lowers)+len(l.data))
	}
	return mountOn("overlay", target, fsOverlay, 0, data)
}

// bind mounts the tree of the open file source, which belongs to this mount
// namespace, upon at, and gives attr to each mount of it. What is mounted below source
// comes along if deep is set.
func (mt *mounter) bind(source int, at place, attr uint64, deep bool) error {
	return mt.bindTree(source, at, mountSpec{attr: attr, deep: deep})
}

// bindTree is bind with the propagation that m asks for.
func (mt *mounter) bindTree(source int, at place, m mountSpec) error {
	target, err := at.open(unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return mt.bindOn(source, target, at, m)
}

// bindOn is bindTree upon the open target, which is what there is at the place.
func (mt *mounter) bindOn(source, target int, at place, m mountSpec) error {
	if mt.legacy {
		return bindLegacy(source, target, at, m)
	}
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	setFlags := uint(unix.AT_EMPTY_PATH)
	if m.deep {
		flags |= unix.AT_RECURSIVE
		setFlags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(source, "", flags)
	if err != nil {
		return fmt.Errorf("clone mount: %w", explainBind(err, m))
	}
	defer unix.Close(tree)
	if m.attr != 0 || m.propagation != 0 {
		if err := unix.MountSetattr(tree, "", setFlags, &unix.MountAttr{Attr_set: m.attr, Propagation: m.propagation}); err != nil {
			return fmt.Errorf("set mount attributes: %w", err)
		}
	}
	return moveMount(tree, target)
}

// explainBind says why a tree cannot be cloned without what is mounted below it.
func explainBind(err error, m mountSpec) error {
	if errors.Is(err, unix.EINVAL) && !m.deep {
		return fmt.Errorf("%w: something is mounted below it, and must come along: use rbind", err)
	}
	return err
}

// bindLegacy is bindTree by mount(2). Attributes reach the topmost mount alone: that
// is why New refuses read-only volumes with mounts below them on such a kernel.
func bindLegacy(source, target int, at place, m mountSpec) error {
	flags := uintptr(unix.MS_BIND)
	if m.deep {
		flags |= unix.MS_REC
	}
	if err := mountOn(fdPath(source), target, "", flags, ""); err != nil {
		return err
	}
	if m.attr == 0 {
		return nil
	}
	return remountLegacy(source, at, m.attr)
}

// remountLegacy gives attr to the mount that is now at the place, which is of source.
func remountLegacy(source int, at place, attr uint64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(source, &st); err != nil {
		return fmt.Errorf("look at mount: %w", err)
	}
	// The flags a mount was given by another user namespace must be repeated
	// (mount_namespaces(7), locked flags).
	const locked = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME
	flags := uintptr(st.Flags)&locked | legacyFlags(attr) | unix.MS_REMOUNT | unix.MS_BIND
	// target lies below the new mount; looked up anew, the place is the mount.
	top, err := at.open(unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	return mountOn("", top, "", flags, "")
}

// remountReadonly makes the mount at the place read-only, and none below it.
func (mt *mounter) remountReadonly(at place) error {
	fd, err := at.open(unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if mt.legacy {
		return remountLegacy(fd, at, unix.MOUNT_ATTR_RDONLY)
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("set mount attributes: %w", err)
	}
	return nil
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
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
