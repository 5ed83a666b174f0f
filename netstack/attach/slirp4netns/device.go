// SPDX-License-Identifier: Apache-2.0

package slirp4netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// socketMode lets the owner of a socket in, and nobody else.
const socketMode = 0o600

// OpenDevice returns the tap of a target that is no namespace: the inherited
// descriptor, or the connection of the first client at the BESS socket, for which it
// waits until ctx is done. Otherwise it returns nil. The caller closes it.
func (o Options) OpenDevice(ctx context.Context) (*tap.Device, error) {
	fd := o.TapFD
	if o.BESS != "" {
		var err error
		if fd, err = acceptBESS(ctx, o.BESS); err != nil {
			return nil, err
		}
	}
	if fd < 0 {
		return nil, nil
	}
	d, err := tap.Adopt(tap.Adoption{FD: fd, MTU: o.MTU})
	if err != nil && o.BESS != "" {
		unix.Close(fd)
	}
	return d, err
}

// acceptBESS waits for one client at the socket path and returns its connection, on
// which each message is a frame. The socket is then gone.
func acceptBESS(ctx context.Context, path string) (int, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return -1, fmt.Errorf("remove the stale BESS socket: %w", err)
		}
	}
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) }), err)
	}}
	l, err := cfg.Listen(ctx, "unixpacket", path)
	if err != nil {
		return -1, fmt.Errorf("listen at the BESS socket: %w", err)
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	c, err := l.Accept()
	if err != nil {
		return -1, fmt.Errorf("wait for a client at %s: %w", path, errors.Join(context.Cause(ctx), err))
	}
	defer c.Close()
	f, err := c.(*net.UnixConn).File()
	if err != nil {
		return -1, fmt.Errorf("take the client's connection: %w", err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("take the client's connection: %w", err)
	}
	return fd, nil
}
