// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/sandbox"
	"golang.org/x/sys/unix"
)

// unheard is how long a container with a network of ours has run when its supervisor is
// confined, if nothing was sent before: those that end at once do not wait for that.
const unheard = 20 * time.Millisecond

// settleMost is how long a container's network waits for its image to be brought to the
// disk, which a supervisor that is confined could not go on with. The kernel has been
// writing it for a while then.
const settleMost = 2 * time.Second

// A confinement takes from the supervisor of a container what it does not need to carry
// its traffic and to clean up behind it: before it reads the first byte that the
// container sends.
type confinement struct {
	userNS  *os.File      // the container's user namespace
	left    []int         // descriptors to be closed, which the caller left open
	started chan struct{} // closed when the command runs, and all have been told

	mu        sync.Mutex // guards what follows
	over      bool       // the container has ended
	sweeper   *launcher.Sweeper
	footprint footprint
}

// newConfinement prepares for the container of the process pid, which has not been waited
// for. The process has no other use for the descriptors left.
func newConfinement(pid int, left []int) (*confinement, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return nil, fmt.Errorf("open the container's user namespace: %w", err)
	}
	return &confinement{userNS: ns, left: left, started: make(chan struct{})}, nil
}

// await returns when the command runs and the container has sent something, or could
// have for a while, and with false if ctx is done before.
func (c *confinement) await(ctx context.Context, s *attach.Session) (bool, error) {
	select {
	case <-ctx.Done():
		return false, nil
	case <-c.started:
	}
	fd, err := unix.FcntlInt(uintptr(s.Device().FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("watch the tap: %w", err)
	}
	f := os.NewFile(uintptr(fd), "tap")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err == nil {
		err = f.SetReadDeadline(time.Now().Add(unheard))
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })
	defer stop()
	if err != nil {
		return false, fmt.Errorf("watch the tap: %w", err)
	}
	_ = raw.Read(func(fd uintptr) bool { // an error is the deadline
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n != 0 || err != nil && err != unix.EINTR
	})
	if ctx.Err() != nil {
		return false, nil
	}
	return true, s.Device().Unmute()
}

// enter confines the process, unless the container has ended. layer are the directories that
// are to be emptied at its end, and have files of other ids.
func (c *confinement) enter(s *attach.Session, p sandbox.Policy, layer []string, log *slog.Logger) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil
	}
	c.footprint = takeFootprint()
	for _, fd := range c.left {
		unix.Close(fd)
	}
	c.left = nil
	if len(layer) > 0 {
		var err error
		if c.sweeper, err = launcher.NewSweeper(c.userNS, layer); err != nil {
			log.Warn("this process is not confined: its container's files could not be removed", "err", err)
			return nil
		}
	}
	// What the kernel lacks slipway doctor tells.
	if _, err := sandbox.Landlock(); err != nil {
		p.Landlock = sandbox.Off
	}
	if sandbox.Filter() != nil {
		p.Filter = sandbox.Off
	}
	_, err := s.Confine(p)
	return err
}

// end says that the container has ended: the process is not confined from then on. It
// returns what removes the container's files, the first time if there is one.
func (c *confinement) end() *launcher.Sweeper {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.over = true
		c.userNS.Close()
	}
	s := c.sweeper
	c.sweeper = nil
	return s
}

// dropFootprint drops from memory what the process needed to start.
func (c *confinement) dropFootprint() {
	if c == nil {
		takeFootprint().drop()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.footprint == nil {
		c.footprint = takeFootprint()
	}
	c.footprint.drop()
}

// confine confines the process when the container has begun to send.
func (r *runner) confine(ctx context.Context, s *attach.Session, log *slog.Logger) (goOn bool, err error) {
	if goOn, err = r.confined.await(ctx, s); !goOn {
		return false, err
	}
	r.root.awaitSettled(ctx)
	var layer []string
	if w := r.writable; w != nil && !r.kept() && !(r.cfg.IDs.IsZero() || r.cfg.IDs.IsOwn()) {
		layer = w.Dirs()
	}
	p, err := r.policy()
	if err != nil {
		return false, err
	}
	return true, r.confined.enter(s, p, layer, log)
}

// awaitSettled waits, for a while, until the image is on the disk.
func (f *rootFlags) awaitSettled(ctx context.Context) {
	if f.settled == nil {
		return
	}
	t := time.NewTimer(settleMost)
	defer t.Stop()
	select {
	case <-f.settled:
	case <-t.C:
	case <-ctx.Done():
	}
}

// settling reports whether the image is being brought to the disk.
func (f *rootFlags) settling() bool {
	select {
	case <-f.settled:
		return false
	default:
		return f.settled != nil
	}
}

// policy says what the process needs besides its session. Where it goes on to start
// programs, or to work among files of other containers, its files and system calls stay
// as they are.
func (r *runner) policy() (sandbox.Policy, error) {
	p := sandbox.Policy{Root: sandbox.Off, Wait: true}
	if len(r.lans.networks) > 0 || r.cfg.Runtime != "" || r.root.settling() {
		p.Landlock, p.Filter = sandbox.Off, sandbox.Off
		return p, nil
	}
	p.Change, p.Clear, p.Prune = r.held.Places()
	if g := r.super.Group(); g != "" {
		p.Change, p.Prune = append(p.Change, g), append(p.Prune, filepath.Dir(g))
	}
	if w := r.writable; w != nil && !r.kept() {
		p.Clear, p.Prune = append(p.Clear, w.Dir()), append(p.Prune, filepath.Dir(w.Dir()))
	}
	var errs []error
	for _, path := range []string{r.life.pidfile, r.life.cidfile} {
		if path != "" {
			abs, err := filepath.Abs(path)
			errs = append(errs, err)
			p.Remove = append(p.Remove, abs)
		}
	}
	return p, errors.Join(errs...)
}
