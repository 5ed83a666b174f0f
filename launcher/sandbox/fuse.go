// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// fuseDevice is where file systems in user space are connected (fuse(4)).
const fuseDevice = "/dev/fuse"

// fuseRoot makes the root a file system that a process beside the container serves: the
// supervisor starts it when it gets the connection. The mount is made here, since only
// members of the user namespace that made it may look into it (fs/fuse/dir.c,
// fuse_allow_current_process), and the device must have been opened there, too.
func (s *setup) fuseRoot(root place) error {
	r := &s.o.Root
	if err := ownLayer(s.sources[r.Upper], s.sources[r.Work]); err != nil {
		return err
	}
	fd := s.sources[fuseDevice]
	err := s.mt.attach(root, mountSpec{fstype: "fuse", source: "fuse-overlayfs", data: []string{
		"fd=" + strconv.Itoa(fd), "rootmode=40000", "user_id=0", "group_id=0",
		"allow_other",         // all users of the container
		"default_permissions", // the kernel looks at modes, not the other process
	}})
	if err != nil {
		return fmt.Errorf("%w: a root by fuse-overlayfs needs Linux 4.18 or later with FUSE (sudo modprobe fuse)", err)
	}
	h := [frameHeaderLen]byte{byte(FrameFuse)}
	if _, err := s.ctl.send(h[:], unix.UnixRights(fd)); err != nil {
		return err
	}
	// If the other process ends, ours must not be the copy that keeps us waiting for it.
	unix.Close(fd)
	delete(s.sources, fuseDevice)
	return nil
}

// explainFuse says what an error of the first look at such a root means.
func explainFuse(err error) error {
	if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) {
		return errors.New("fuse-overlayfs ended before it served the root")
	}
	return err
}
