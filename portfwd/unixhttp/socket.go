// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// socketMode lets the owner in, and nobody else.
	socketMode = 0o600
	// probeTimeout is how long the one who listens at a socket may take to show it.
	probeTimeout = 5 * time.Second
	// lockSuffix makes the name of the lock's file out of the socket's, and lockMode
	// keeps others from locking it.
	lockSuffix = ".lock"
	lockMode   = 0o600
	// lockTimeout is how long somebody else may keep the lock, and lockEvery how often
	// it is tried.
	lockTimeout = 10 * time.Second
	lockEvery   = 5 * time.Millisecond
)

// ListenSocket listens at the socket path, which only our user and root may connect
// to, as Listen does: for protocols that are not HTTP. Closing it removes the socket.
func ListenSocket(path string) (net.Listener, error) {
	// Two that find the same stale socket must not remove each other's new one.
	unlock, err := lock(path + lockSuffix)
	if err != nil {
		return nil, fmt.Errorf("lock the name of the API socket: %w", err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The file gets the mode that the socket has when it is bound (bind(2) takes it
	// from the socket's own inode): there is no moment in which others may connect.
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) }); cerr != nil {
			return cerr
		}
		return err
	}}
	l, err := cfg.Listen(context.Background(), "unix", path)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("API socket %s: %w, since this moment: choose another name", path, os.ErrExist)
	}
	if err != nil {
		return nil, fmt.Errorf("listen at the API socket: %w", err)
	}
	return l, nil
}

// lock locks a file of its own against others who do the same (flock(2)), and returns
// what ends that and removes it. Where none can be made, nothing is locked. It is not
// the directory that is locked: RootlessKit does that itself, as long as it runs.
func lock(path string) (unlock func(), err error) {
	for end := time.Now().Add(lockTimeout); ; time.Sleep(lockEvery) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, lockMode)
		if err != nil {
			return func() {}, nil // whoever makes the socket there says what is wrong
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isAt(f, path) {
			return func() { _ = os.Remove(path); f.Close() }, nil
		}
		f.Close()
		if err != nil && err != unix.EWOULDBLOCK && err != unix.EINTR {
			return func() {}, nil // a file system without locks
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s: somebody keeps it locked: remove it, or choose another name", path)
		}
	}
}

// isAt reports whether the file is the one at path still: who held its lock before may
// have removed it.
func isAt(f *os.File, path string) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(ours, there)
}

// removeStale removes a socket at path that nobody listens at.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the API socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("API socket %s: %w, and it is not a socket: choose another name", path, os.ErrExist)
	}
	if c, err := net.DialTimeout("unix", path, probeTimeout); err == nil {
		c.Close()
		return fmt.Errorf("API socket %s: %w, and another process listens there: choose another name", path, os.ErrExist)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the stale API socket: %w", err)
	}
	return nil
}
