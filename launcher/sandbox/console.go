// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// console opens a terminal of the container's devpts, hands its master to the
// supervisor and keeps its slave.
func (pl *payload) console() error {
	// From the root: the working directory is the command's already.
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the root: %w", err)
	}
	defer unix.Close(root)
	how := unix.OpenHow{Flags: unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: insideOnly}
	master, err := unix.Openat2(root, "dev/pts/ptmx", &how)
	if err != nil {
		return fmt.Errorf("open /dev/pts/ptmx: %w", err)
	}
	defer unix.Close(master)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(master, &fs); err != nil || fs.Type != unix.DEVPTS_SUPER_MAGIC {
		return errors.New("/dev/pts/ptmx is not in a devpts")
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock it: %w", err)
	}
	if p := pl.p; p.Rows > 0 && p.Columns > 0 {
		ws := unix.Winsize{Row: uint16(p.Rows), Col: uint16(p.Columns)}
		if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &ws); err != nil {
			return fmt.Errorf("set its size: %w", err)
		}
	}
	// The slave of this master and no other, whatever /dev/pts has become
	// (CVE-2025-52565).
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fmt.Errorf("open its other end: %w", errno)
	}
	pl.slave = int(slave)
	// The command's user is to own it, as login(1) has it.
	if err := unix.Fchown(pl.slave, pl.id.uid, -1); err != nil {
		return fmt.Errorf("give it to the user: %w", err)
	}
	h := [frameHeaderLen]byte{byte(FrameConsole)}
	_, err = pl.ctl.send(h[:], unix.UnixRights(master))
	return err
}
