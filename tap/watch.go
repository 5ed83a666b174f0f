// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrGone is matched, by errors.Is, by the errors which say that the container's
// network namespace, or the tap in it, is no more.
var ErrGone = errors.New("the network namespace is gone")

// watchInterval is how often Watch looks whether a path is still the namespace.
const watchInterval = time.Second

// A fileID identifies a namespace file: device and inode of the nsfs.
type fileID struct{ dev, ino uint64 }

// Watch waits until the target is gone, and then returns an error that matches
// ErrGone, or until ctx is done, and then returns nil.
//
// A tap that Open moved into the target tells the end of its namespace itself:
// its descriptor polls POLLERR and reading it fails with EBADFD, some
// milliseconds after the last process, bind mount or descriptor of the namespace
// is gone (seconds, where packets in the kernel still refer to it). There Watch
// only waits for ctx. A tap that was taken over, or made with Config.Pin, was
// opened inside the namespace and keeps it alive, so it tells nothing. Then the
// target is gone when what named it is, and no process that /proc shows is left in
// the namespace:
//   - a process id, or the path of that in /proc, names it until the process ends,
//     which is seen at once,
//   - another path names it until it is missing, which is seen at once where the file
//     is removed, or another file, which is seen within watchInterval.
//
// At most one Watch may run at a time, and it must end before Close.
func (d *Device) Watch(ctx context.Context) error {
	if d.way == moved || d.way == adopted {
		<-ctx.Done()
		return nil
	}
	var gone error
	if d.process != nil {
		gone = waitProcess(ctx, d.process, d.target.process())
	} else {
		gone = d.watchPath(ctx)
	}
	for errors.Is(gone, ErrGone) {
		p, pid := d.residents.any()
		if p == nil {
			return gone
		}
		gone = waitProcess(ctx, p, pid)
		p.Close()
	}
	return gone
}

// Watched returns the path that Watch looks at, by stat(2), or "" where there is none.
// A process that is to lose sight of the file system keeps it in reach.
func (d *Device) Watched() string {
	if d.way == moved || d.process != nil {
		return ""
	}
	return d.target.NetNS
}

// ForgetProc closes /proc, which is open for Watch where the tap keeps the namespace
// alive. From then on the target is gone as soon as what named it is. It must come
// before Watch.
func (d *Device) ForgetProc() { d.residents.close() }

// waitProcess waits until the process of a pidfd has ended, and then returns
// ErrGone, or until ctx is done, and then returns nil.
func waitProcess(ctx context.Context, pidfd *os.File, pid int) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	pidfd.SetReadDeadline(time.Time{}) // an earlier Watch may have left one
	stop := context.AfterFunc(ctx, func() { pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool { return ended(int(fd)) })
	switch {
	case err == nil:
		return fmt.Errorf("%w: process %d has ended", ErrGone, pid)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return fmt.Errorf("watch process %d: %w", pid, err)
}

func (d *Device) watchPath(ctx context.Context) error {
	if d.removals == nil {
		return d.lookAtPath(ctx)
	}
	past := func() { d.removals.SetReadDeadline(time.Unix(1, 0)) }
	stop := context.AfterFunc(ctx, past)
	defer stop()
	events := make([]byte, 4096)
	for {
		if err := d.pathGone(); err != nil {
			return err
		}
		d.removals.SetReadDeadline(time.Now().Add(watchInterval))
		if ctx.Err() != nil {
			return nil
		}
		// What was removed does not matter: it is looked at.
		if _, err := d.removals.Read(events); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return d.lookAtPath(ctx)
		}
	}
}

// lookAtPath is watchPath where the kernel tells of no removals.
func (d *Device) lookAtPath(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if err := d.pathGone(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watchRemovals returns a descriptor that tells when files are removed from the
// directory of path (inotify(7)), or nil: that there is no more to be had is no failure.
// Of /proc it tells nothing.
func watchRemovals(path string) *os.File {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_DELETE|unix.IN_MOVE|unix.IN_ONLYDIR); err != nil {
		unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), "inotify")
}

func (d *Device) pathGone() error {
	var st unix.Stat_t
	err := unix.Stat(d.target.NetNS, &st)
	if errors.Is(err, fs.ErrPermission) {
		// A process, which has given up the rights that Open had, may not look at
		// /proc/PID/ns/net of one that has more; but that one is there.
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrGone, d.target.NetNS, err)
	}
	if (fileID{dev: st.Dev, ino: st.Ino}) != d.file {
		return fmt.Errorf("%w: %s is another file now", ErrGone, d.target.NetNS)
	}
	return nil
}

// ended reports whether the process of a pidfd has ended, be it reaped or not
// (pidfd_open(2): it is readable then).
func ended(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}

func statHandle(h netns.NsHandle) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(h), &st); err != nil {
		return fileID{}, fmt.Errorf("stat the namespace: %w", err)
	}
	return fileID{dev: st.Dev, ino: st.Ino}, nil
}
