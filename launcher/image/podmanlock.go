// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockRetry is how often a lock is tried that another program has.
const lockRetry = 20 * time.Millisecond

// lock takes a lock of the storage for reading, which is one of fcntl(2) on the whole
// file. It is one of the open file's (F_OFD_SETLK), so that no other descriptor's end
// gives it up. A storage that only lets itself be read has no lock to wait for.
func (p *podman) lock(ctx context.Context, name string) error {
	f, err := p.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	for {
		l := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
		switch {
		case err == nil:
			p.locks = append(p.locks, f)
			return nil
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR):
			f.Close()
			return fmt.Errorf("lock %s: %w", name, err)
		}
		t := time.NewTimer(lockRetry)
		select {
		case <-ctx.Done():
			t.Stop()
			f.Close()
			return fmt.Errorf("wait for %s: %w", name, context.Cause(ctx))
		case <-t.C:
		}
	}
}

// unlock gives the locks back.
func (p *podman) unlock() {
	for _, f := range p.locks {
		f.Close()
	}
	p.locks = nil
}
