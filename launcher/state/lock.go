// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile is the file that a supervisor holds locked.
const lockFile = "lock"

// tryLock locks f for this open file description, and reports whether nobody else
// has it locked.
func tryLock(f *os.File) (bool, error) {
	err := lockCall(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return false, nil
	}
	return false, fmt.Errorf("lock %s: %w", f.Name(), err)
}

// waitLock locks f as soon as nobody else has it locked.
func waitLock(f *os.File) error {
	if err := lockCall(f, unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// isLocked reports whether somebody has the file at path locked. A file that is
// not there nobody has.
func isLocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	return lockCall(f, unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}

func lockCall(f *os.File, cmd int, l *unix.Flock_t) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	err = raw.Control(func(fd uintptr) {
		for {
			if lerr = unix.FcntlFlock(fd, cmd, l); lerr != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(err, lerr)
}
