// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// socketMode lets the owner in, and nobody else.
	socketMode = 0o600
	// probeTimeout is how long the one who listens at a socket may take to show it.
	probeTimeout = 5 * time.Second
	// lockTimeout is how long somebody else may keep the directory locked, and
	// lockEvery how often it is tried. Whoever can read the directory can lock it.
	lockTimeout = 10 * time.Second
	lockEvery   = 5 * time.Millisecond
)

// ListenSocket listens at the socket path, which only our user and root may connect
// to, as Listen does: for protocols that are not HTTP. Closing it removes the socket.
func ListenSocket(path string) (net.Listener, error) {
	// Two that find the same stale socket must not remove each other's new one.
	unlock, err := lock(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("lock the directory of the API socket: %w", err)
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

// lock locks a directory against others who do the same (flock(2)), and returns what
// ends that. One that cannot be opened, or has no locks, is left unlocked.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return func() {}, nil // whoever makes the socket there says what is wrong
	}
	for end := time.Now().Add(lockTimeout); ; time.Sleep(lockEvery) {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == unix.EWOULDBLOCK && time.Now().Before(end) || err == unix.EINTR {
			continue
		}
		if err == unix.EWOULDBLOCK {
			d.Close()
			return nil, fmt.Errorf("%s: somebody keeps it locked: choose another directory", dir)
		}
		return func() { d.Close() }, nil
	}
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
