// SPDX-License-Identifier: Apache-2.0

package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// graceTime is how long a helper may take to end by itself. It gives back its
// listeners and rules in milliseconds; one that hangs is killed.
const graceTime = 2 * time.Second

// A Running is a helper that runs, by its pidfd. The caller closes it.
type Running struct {
	PID   int
	pidfd int
}

// Find returns the helper that holds the lock of the pidfile, or nil where there is
// none. One that is about to end it waits for.
func Find(pidfile string) (*Running, error) {
	f, err := os.Open(pidfile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the helper: %w", err)
	}
	defer f.Close()
	for {
		pid, err := holder(f)
		if err != nil {
			return nil, err
		}
		if pid == 0 {
			awaitEnd(f)
			return nil, nil
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // it has just ended
		}
		if err != nil {
			return nil, fmt.Errorf("open the helper, process %d: %w", pid, err)
		}
		if again, err := holder(f); err != nil || again != pid {
			unix.Close(fd)
			if err != nil {
				return nil, err
			}
			continue
		}
		if exiting(pid) && ended(context.Background(), fd, graceTime) {
			unix.Close(fd)
			continue // it was killed, and has the lock no more
		}
		return &Running{PID: pid, pidfd: fd}, nil
	}
}

// Runs reports whether a helper holds the lock of the pidfile.
func Runs(pidfile string) bool {
	r, err := Find(pidfile)
	if r != nil {
		r.Close()
	}
	return r != nil || err != nil
}

// awaitEnd waits for the end of a helper that was killed: the kernel takes the lock away
// first, and the container's interface some milliseconds later. The number in the file
// may be somebody else's by now, but hardly that of one who ends this moment, and then
// it would not be for long.
func awaitEnd(f *os.File) {
	var pid int
	if _, err := fmt.Fscan(f, &pid); err != nil || pid <= 0 || !exiting(pid) {
		return
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	ended(context.Background(), fd, graceTime)
}

// exitingFlag is PF_EXITING of include/linux/sched.h: the process gives back what it
// has. The flags are the ninth field of /proc/PID/stat (proc_pid_stat(5)), the seventh
// behind the name in parentheses.
const (
	exitingFlag = 0x4
	flagsField  = 6
)

func exiting(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) <= flagsField {
		return false
	}
	flags, err := strconv.ParseUint(fields[flagsField], 10, 64)
	return err == nil && flags&exitingFlag != 0
}

// holder returns the process that holds a lock on the file, or 0.
func holder(f *os.File) (int, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, fmt.Errorf("ask who has %s locked: %w", f.Name(), err)
	}
	switch {
	case lock.Type == unix.F_UNLCK:
		return 0, nil
	case lock.Pid <= 0:
		return 0, fmt.Errorf("the helper that has %s locked is in another pid namespace: stop it from there", f.Name())
	}
	return int(lock.Pid), nil
}

// Close gives up the pidfd. The helper runs on.
func (r *Running) Close() error { return unix.Close(r.pidfd) }

// Stop ends the helper and waits until it has: politely, and soon, or when ctx is done
// before, by force.
func (r *Running) Stop(ctx context.Context) error {
	for _, s := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, graceTime}, {unix.SIGKILL, graceTime}} {
		err := unix.PidfdSendSignal(r.pidfd, s.signal, nil, 0)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("stop the helper, process %d: %w", r.PID, err)
		}
		if ended(ctx, r.pidfd, s.wait) {
			return nil
		}
		ctx = context.WithoutCancel(ctx)
	}
	return fmt.Errorf("stop the helper, process %d: it does not end, although it was killed", r.PID)
}

// pollEvery is how often a wait for the end of a process looks at its context.
const pollEvery = 50 * time.Millisecond

// ended waits for the end of the process, until ctx is done or the time over.
func ended(ctx context.Context, pidfd int, wait time.Duration) bool {
	for end := time.Now().Add(wait); ; {
		p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, int(pollEvery.Milliseconds())); err == nil && n > 0 {
			return true
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return false
		}
	}
}

// Remove removes what a helper that was killed has left.
func Remove(files ...string) error {
	var errs []error
	for _, f := range files {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
