// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
)

// firstInherited is the first descriptor that is not one of the standard streams.
const firstInherited = 3

// A process is what this one shares with its caller: descriptors that it was
// given on purpose. All others it closes, so that a caller who waits for the end
// of a pipe does not wait for us.
type process struct {
	readyFD, exitFD int // -1 for none
	footprint       footprint
}

// newProcess checks the descriptors, and closes all others that were inherited but
// those to keep.
func newProcess(readyFD, exitFD int, keep ...int) (*process, error) {
	for name, fd := range map[string]int{"--ready-fd": readyFD, "--exit-fd": exitFD} {
		if fd < -1 {
			return nil, fmt.Errorf("%w: %s %d: want the number of an open descriptor", errUsage, name, fd)
		}
		if fd == -1 {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return nil, fmt.Errorf("%s %d: the descriptor is not open: does the caller pass it on?", name, fd)
		}
	}
	p := &process{readyFD: readyFD, exitFD: exitFD, footprint: takeFootprint()}
	return p, p.closeInherited(keep)
}

// checkOtherEnd returns an error for an exit descriptor that has no other end:
// nobody could ever close that, and end us.
func checkOtherEnd(exitFD int) error {
	if exitFD < 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(exitFD, &st); err != nil {
		return fmt.Errorf("look at --exit-fd %d: %w", exitFD, err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFIFO && kind != unix.S_IFSOCK {
		return fmt.Errorf("--exit-fd %d: it is neither a pipe nor a socket, and so has no other end to be closed", exitFD)
	}
	return nil
}

// closeInherited closes what the caller left open, but for keep. The runtime's own descriptors
// are told apart by being closed on exec, which an inherited one cannot be.
func (p *process) closeInherited(keep []int) error {
	fds, err := leftOpen()
	for _, fd := range fds {
		if fd != p.readyFD && fd != p.exitFD && !slices.Contains(keep, fd) {
			unix.Close(fd)
		}
	}
	return err
}

// leftOpen lists what the caller left open besides the standard streams.
func leftOpen() ([]int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no /proc: what was inherited stays open, which harms others only
	}
	if err != nil {
		return nil, fmt.Errorf("list open descriptors: %w", err)
	}
	var fds []int
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < firstInherited {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds, nil
}

// ready tells the caller that the network is up. What was needed to come this far is
// then dropped from memory.
func (p *process) ready() error {
	defer p.footprint.drop()
	defer attach.Settle()
	if p.readyFD < 0 {
		return nil
	}
	f := os.NewFile(uintptr(p.readyFD), "ready-fd")
	defer f.Close()
	if _, err := f.Write([]byte("1")); err != nil {
		return fmt.Errorf("write to --ready-fd %d: %w", p.readyFD, err)
	}
	return nil
}

// watchExit returns a context that is done when the other end of the exit
// descriptor is closed. The caller calls the returned function.
func (p *process) watchExit(ctx context.Context, log *slog.Logger) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if p.exitFD < 0 {
		return ctx, cancel
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := waitHangUp(ctx, p.exitFD); err != nil {
			log.Warn("cannot watch the exit descriptor", "fd", p.exitFD, "err", err)
			return
		}
		cancel()
	}()
	return ctx, func() {
		cancel()
		<-done
	}
}

// waitHangUp returns when the other end of fd is closed, or ctx is done.
func waitHangUp(ctx context.Context, fd int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := loop.New()
	if err != nil {
		return err
	}
	defer l.Close()
	// Hang-up and error are always watched for.
	if _, err := l.Add(fd, loop.ReadHangUp, loop.HandlerFunc(func(loop.Events) { cancel() })); err != nil {
		return err
	}
	return l.Run(ctx)
}
