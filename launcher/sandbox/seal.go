// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns/inside"
)

// selfExe is this process's binary.
const selfExe = "/proc/self/exe"

// sealMain is initMain of a sealed binary. count are the words behind ModeSeal.
func sealMain(ctl *Control, count []string) (int, error) {
	if err := seal(count); err != nil {
		return 0, err
	}
	return initMain(ctl)
}

// seal starts this binary again from a read-only mount of it: a process of the
// container that is made to execute /proc/self/exe would have it within reach, and
// could put its own code into it for the next start (CVE-2019-5736). It returns only
// if that is not needed.
func seal(count []string) error {
	fd, err := openSelf()
	if err != nil {
		return fmt.Errorf("seal the binary: %w; to mend it: let root own it", err)
	}
	if fd < 0 {
		return nil
	}
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	unix.Close(fd)
	if errors.Is(err, unix.ENOSYS) {
		return nil // before Linux 5.2: the untraceable pid 1 has to do
	}
	if err != nil {
		return fmt.Errorf("seal the binary: %w", err)
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		unix.Close(tree)
		return fmt.Errorf("seal the binary: %w", err)
	}
	// The control socket is to survive, and what the command gets.
	files := 0
	if len(count) > 0 {
		if files, err = strconv.Atoi(count[0]); err != nil {
			return fmt.Errorf("seal the binary: number of descriptors: %w", err)
		}
	}
	for fd := ControlFD; fd <= ControlFD+files; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("seal the binary: %w", err)
		}
	}
	return fmt.Errorf("seal the binary: %w", unix.Exec(fdPath(tree), []string{InitArg, ModeRun}, inside.Environ()))
}

// openSelf opens this binary by its name: /proc/self/exe itself leads into the
// supervisor's mount namespace, whose mounts cannot be cloned from here. -1 is a
// binary that has no name any more, which no later start can use.
func openSelf() (int, error) {
	name, err := os.Readlink(selfExe)
	if err != nil {
		return -1, err
	}
	var self, named unix.Stat_t
	if err := unix.Stat(selfExe, &self); err != nil {
		return -1, err
	}
	if self.Nlink == 0 {
		return -1, nil
	}
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	if err := unix.Fstat(fd, &named); err != nil || named.Dev != self.Dev || named.Ino != self.Ino {
		unix.Close(fd)
		return -1, fmt.Errorf("%s is another file", name)
	}
	return fd, nil
}
