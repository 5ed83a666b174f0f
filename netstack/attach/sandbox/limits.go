// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// limit keeps the process' memory, which has what containers send, to itself: from
// being traced by others of its user, another container's helper among them, and
// from being written to a core file. What a process may look up of it in /proc then
// belongs to root (PR_SET_DUMPABLE of prctl(2)), but for its status.
func limit() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep the process from being traced: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("keep the process from writing a core file: %w", err)
	}
	return nil
}
