// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Watch waits for the end of a container. It keeps hold of the exit, which a
// container that is thrown away leaves nowhere else. It is for one goroutine.
type Watch struct {
	store *Store
	rec   Record
	sup   *os.File // a pidfd; nil if the supervisor has ended
	exit  *os.File // nil if there is none
}

// Watch begins to watch a container. The caller closes the Watch.
func (s *Store) Watch(c *Container) (*Watch, error) {
	w := &Watch{store: s, rec: c.Record}
	for _, dir := range []string{s.Dir(c.ID), s.DataDir(c.ID)} {
		f, err := os.Open(filepath.Join(dir, exitFile))
		if err == nil {
			w.exit = f
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("watch container %s: %w", c.Short(), err)
		}
	}
	fd, err := c.Supervisor.Open()
	switch {
	case c.BootID != s.boot || errors.Is(err, unix.ESRCH):
		if err == nil {
			unix.Close(fd)
		}
	case err != nil:
		w.Close()
		return nil, fmt.Errorf("watch container %s: %w", c.Short(), err)
	default:
		w.sup = os.NewFile(uintptr(fd), "supervisor")
	}
	return w, nil
}

// Wait returns how the container ended as soon as it has. The error is that of
// ctx, if that is done before.
func (w *Watch) Wait(ctx context.Context) (Exit, error) {
	if w.sup != nil {
		if err := waitProcess(ctx, w.sup); err != nil {
			return Exit{}, err
		}
	}
	if w.exit != nil {
		if e := decodeExit(w.exit); e != nil {
			return *e, nil
		}
	}
	return *w.store.lost(&w.rec), nil
}

// Kill kills the supervisor, and with it the container.
func (w *Watch) Kill() error {
	if w.sup == nil {
		return nil
	}
	raw, err := w.sup.SyscallConn()
	if err != nil {
		return err
	}
	var kerr error
	err = raw.Control(func(fd uintptr) { kerr = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if kerr != nil && !errors.Is(kerr, unix.ESRCH) {
		return fmt.Errorf("kill the supervisor of container %s: %w", w.rec.Short(), kerr)
	}
	return err
}

// Close ends the watching.
func (w *Watch) Close() error {
	for _, f := range []*os.File{w.sup, w.exit} {
		if f != nil {
			f.Close()
		}
	}
	return nil
}

// waitProcess returns nil when the process of the pidfd has ended.
func waitProcess(ctx context.Context, pidfd *os.File) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0
	})
	if err != nil && ctx.Err() != nil {
		_ = pidfd.SetReadDeadline(time.Time{})
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("wait for the supervisor: %w", err)
	}
	return nil
}
