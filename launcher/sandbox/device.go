// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"

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
	return s.mt.bind(fd, at, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, false)
}

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
	for _, l := range [][2]string{
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},
	} {
		if err := in(s.root, devDir).join(l[0]).symlink(l[1]); err != nil {
			return err
		}
	}
	return nil
}
