// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// eventRoom is the size in bytes of the buffer for events. What they say does not
// matter: each means that there is something to look at.
const eventRoom = 4096

// A notifier tells when a log may have changed.
type notifier struct{ f *os.File }

// newNotifier watches the directory of the log at path, where it is written,
// created and renamed.
func newNotifier(path string) (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("follow the log: %w: are there too many watches? See fs.inotify.max_user_instances", err)
	}
	dir := filepath.Dir(path)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("follow the log in %s: %w", dir, err)
	}
	return &notifier{os.NewFile(uintptr(fd), "inotify")}, nil
}

// wait returns when something has changed, or ctx is done.
func (n *notifier) wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = n.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var buf [eventRoom]byte
	_, _ = n.f.Read(buf[:])
}

func (n *notifier) close() { n.f.Close() }
