// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/unlink"
)

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
	if err := await(ctl, FrameGo); err != nil {
		return 0, err
	}
	for _, dir := range o.Process.files() {
		// One that is gone has nothing any more.
		if err := unlink.Empty(int(dir)); err != nil && !errors.Is(err, unix.ENOENT) {
			return 0, fmt.Errorf("remove what the container has written: %w", err)
		}
	}
	return 0, nil
}
