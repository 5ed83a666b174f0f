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
)

// ListenSocket listens at the socket path, which only our user and root may connect
// to, as Listen does: for protocols that are not HTTP. Closing it removes the socket.
func ListenSocket(path string) (net.Listener, error) {
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
	if err != nil {
		return nil, fmt.Errorf("listen at the API socket: %w", err)
	}
	return l, nil
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
