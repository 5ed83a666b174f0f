// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// The null device's numbers (Documentation/admin-guide/devices.txt of Linux).
const (
	majorMem  = 1
	minorNull = 3
)

// device binds a device node of the host, after a look at what it is.
func (s *setup) device(d Device) error {
	fd := s.sources[d.Path]
	if err := checkDevice(fd, d.Block, d.Major, d.Minor); err != nil {
		return err
	}
	at := in(s.root, d.Path)
	if err := at.touch(); err != nil {
		return err
	}
	return s.mt.bind(fd, at, attrDevice, false)
}

// devices makes those right below /dev, a new tmpfs where a name is what we made it,
// with less looking.
func (s *setup) devices() error {
	dev, err := in(s.root, devDir).open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	for _, d := range s.o.Devices {
		dir, name := path.Split(d.Path)
		if s.mt.legacy || path.Clean(dir) != devDir {
			err = s.device(d)
		} else {
			err = s.deviceIn(dev, name, d)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
	}
	return nil
}

func (s *setup) deviceIn(dev int, name string, d Device) error {
	fd := s.sources[d.Path]
	if err := checkDevice(fd, d.Block, d.Major, d.Minor); err != nil {
		return err
	}
	if err := unix.Mknodat(dev, name, unix.S_IFREG|0o644, 0); err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("clone mount: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: attrDevice}); err != nil {
		return fmt.Errorf("set mount attributes: %w", err)
	}
	if err := unix.MoveMount(tree, "", dev, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach mount: %w", err)
	}
	return nil
}

// attrDevice are the attributes of a device's mount.
const attrDevice = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

// checkDevice returns an error unless fd is the device with the numbers.
func checkDevice(fd int, block bool, major, minor uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at the host's: %w", err)
	}
	kind, name := uint32(unix.S_IFCHR), "character"
	if block {
		kind, name = unix.S_IFBLK, "block"
	}
	if st.Mode&unix.S_IFMT != kind || st.Rdev != unix.Mkdev(major, minor) {
		return fmt.Errorf("the host's is not the %s device %d:%d", name, major, minor)
	}
	return nil
}

// links makes the symbolic links that programs expect in /dev (the runtime-spec,
// config-linux.md, "Dev symbolic links").
func (s *setup) links() error {
	dev, err := in(s.root, devDir).open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	for _, l := range [][2]string{
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},
	} {
		if err := unix.Symlinkat(l[1], dev, l[0]); err != nil {
			return fmt.Errorf("%s: %w", l[0], err)
		}
	}
	return nil
}
