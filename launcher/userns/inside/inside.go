// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Environ is the environment of a stage: nothing of the caller's, and no look at
// cgroups for a CPU limit, which would take the Go runtime half a millisecond.
func Environ() []string {
	env := []string{"GODEBUG=containermaxprocs=0"}
	if detector != "" {
		env = append(env, detector)
	}
	return env
}

// Await reads the one byte with which the other end of fd tells that ids are mapped.
func Await(fd int) error {
	var b [1]byte
	for {
		n, err := unix.Read(fd, b[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for the mapping: %w", err)
		case n == 0:
			return errors.New("wait for the mapping: the caller has gone")
		}
		return nil
	}
}

// BecomeRoot gives every thread of a process in a new user namespace its ids 0 and no
// supplementary group. What it may do it keeps, and it dies with its parent as
// before, which a change of ids puts an end to.
func BecomeRoot() error {
	if err := syscall.Setgroups(nil); err != nil && !errors.Is(err, unix.EPERM) { // denied to a single mapping
		return fmt.Errorf("drop groups: %w", err)
	}
	if err := syscall.Setresgid(0, 0, 0); err != nil {
		return fmt.Errorf("become group 0: %w", err)
	}
	if err := syscall.Setresuid(0, 0, 0); err != nil {
		return fmt.Errorf("become user 0: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to die with the parent: %w", err)
	}
	return nil
}
