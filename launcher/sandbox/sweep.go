// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/unlink"
)

// sweepCaps are what it takes to remove files whoever owns them, in whatever directory.
const sweepCaps = 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER

// sweepMain empties the directories that are open from behind ControlFD on, once it is
// told to. It is root of the container's user namespace, and of no other of its kinds. What
// the directories are in belongs to the user, whom that root need not be.
func sweepMain(ctl *Control) (int, error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("make the stage untraceable: %w", err)
	}
	o, err := receiveOrder(ctl)
	if err != nil {
		return 0, err
	}
	dirs := o.Process.files()
	if err := stayIn(dirs); err != nil {
		return 0, err
	}
	if err := await(ctl, FrameGo); err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		// One that is gone has nothing any more.
		if err := unlink.Empty(int(dir)); err != nil && !errors.Is(err, unix.ENOENT) {
			return 0, fmt.Errorf("remove what the container has written: %w", err)
		}
	}
	return 0, nil
}

// stayIn leaves the process nothing but the directories, and what it takes to empty them:
// it waits for as long as the container lives, beside it and among the host's files.
func stayIn(dirs []uintptr) error {
	if len(dirs) == 0 {
		return errors.New("the order to remove files has none")
	}
	err := unix.Fchdir(int(dirs[0]))
	if err == nil {
		err = unix.Chroot(".")
	}
	if err != nil {
		return fmt.Errorf("make the container's files the root: %w", err)
	}
	return dropCapsEverywhere(sweepCaps)
}
