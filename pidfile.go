// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// pidfileMode lets everybody read who the process is.
const pidfileMode = 0o644

// A pidfile names this process for as long as it lives: it holds a lock on the file
// (fcntl(2), F_SETLK), which ends with the process however that ends, and by which the
// kernel tells everybody the id of the process (F_GETLK). So nobody who looks takes
// another process with the same id for this one.
type pidfile struct{ file *os.File }

// lockPidfile makes the file, or takes over one whose process has ended, and locks it.
// It is empty until write.
func lockPidfile(path string) (*pidfile, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, pidfileMode)
		if err != nil {
			return nil, fmt.Errorf("make the pidfile: %w", err)
		}
		again, err := lockFile(f, path)
		if err == nil && !again {
			return &pidfile{f}, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// lockFile locks and empties the file, or says that it is not the one at path any more.
func lockFile(f *os.File, path string) (again bool, err error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		owner := unix.Flock_t{Type: unix.F_WRLCK}
		_ = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &owner)
		return false, fmt.Errorf("pidfile %s: process %d, which runs, holds its lock: give another file", path, owner.Pid)
	}
	if err != nil {
		return false, fmt.Errorf("lock the pidfile %s: %w", path, err)
	}
	// Whoever had it may have removed it between our opening and our locking.
	ours, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("look at the pidfile: %w", err)
	}
	there, err := os.Lstat(path)
	if err != nil || !os.SameFile(ours, there) {
		return true, nil
	}
	if !ours.Mode().IsRegular() {
		return false, fmt.Errorf("pidfile %s is no regular file: give another name", path)
	}
	if err := f.Truncate(0); err != nil {
		return false, fmt.Errorf("empty the pidfile: %w", err)
	}
	return false, nil
}

// write writes our process id.
func (p *pidfile) write() error {
	if _, err := p.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("write the process id: %w", err)
	}
	return nil
}

// remove removes the file, and then gives up its lock.
func (p *pidfile) remove() {
	_ = os.Remove(p.file.Name()) // who looks sees by the lock that nobody has it
	p.file.Close()
}
