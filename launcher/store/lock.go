// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// flock(2) cannot be given up, so a lock that another process has is tried again
// after lockFirst, then after twice as long, and so on up to lockMost.
const (
	lockFirst = 5 * time.Millisecond
	lockMost  = 100 * time.Millisecond
)

// ErrLocked is what errors.Is finds in the error of a layer that another process has.
var ErrLocked = errors.New("in use")

// A lock is an open file with a lock of flock(2), which ends with the file, and so at
// the latest with the process, however that ends.
type lock struct {
	f *os.File
}

// lockFile locks the file, which is made if it is missing, for this process alone
// (unix.LOCK_EX) or with others (unix.LOCK_SH). It waits for others until ctx is done.
func lockFile(ctx context.Context, path string, how int) (*lock, error) {
	return waitLock(ctx, path, how, unix.O_CREAT)
}

// waitLock is lockFile with the flags of tryLock.
func waitLock(ctx context.Context, path string, how, flags int) (*lock, error) {
	for wait := lockFirst; ; wait = min(2*wait, lockMost) {
		l, err := tryLock(path, how, flags)
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("wait for %s: %w", path, context.Cause(ctx))
		case <-t.C:
		}
	}
}

// tryLock is lockFile without waiting: its error is ErrLocked if another process has
// the lock. Without unix.O_CREAT in flags the file must exist.
func tryLock(path string, how, flags int) (*lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
		if errors.Is(err, unix.EROFS) { // nobody changes what is there
			f, err = os.OpenFile(path, os.O_RDONLY, 0)
		}
		if err != nil {
			return nil, err
		}
		err = flock(f, how|unix.LOCK_NB)
		if err == nil {
			// Whoever had it may have removed the file: a lock of that is none.
			var st unix.Stat_t
			if err = unix.Fstat(int(f.Fd()), &st); err == nil && st.Nlink > 0 {
				return &lock{f}, nil
			}
		}
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// release gives the lock back.
func (l *lock) release() { l.f.Close() }

// remove gives the lock back and removes its file, which needs an exclusive lock.
func (l *lock) remove() {
	_ = os.Remove(l.f.Name()) // an empty file that stays is none to worry about
	l.f.Close()
}
