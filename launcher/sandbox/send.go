// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap/rawfork"
)

// send executes the command in the container whose first process is the pidfd container,
// as a child of who started this stage, and tells of it. The stage itself has never been
// in the container's pid namespace: nobody there can name it, and so trace it, whatever
// capabilities the container was given (CVE-2016-9962).
//
// The command can be traced there from its fork on, by who has CAP_SYS_PTRACE. It is what
// it is to be by then: a process with a memory of its own, with the command's rights and no
// others. Where there is that capability its filter is on, too.
func (pl *payload) send(container int) error {
	if pl.p.Terminal {
		if err := pl.console(); err != nil {
			return fmt.Errorf("make the container's terminal: %w", err)
		}
	}
	var pid int
	err := pl.onThread(func() (err error) {
		pid, err = pl.forkInto(container)
		return err
	})
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOMEM) && hasEnded(container) {
		return errEnded // its pid namespace takes nobody any more
	}
	if err != nil {
		return err
	}
	return WriteFrame(pl.ctl, FrameStarted, binary.LittleEndian.AppendUint32(nil, uint32(pid)))
}

// forkInto starts the command from the calling thread, which has its rights then.
func (pl *payload) forkInto(container int) (pid int, err error) {
	// It may start no thread from here on, which the runtime leaves to another where a
	// goroutine is locked to one.
	if err := unix.Setns(container, unix.CLONE_NEWPID); err != nil {
		return 0, fmt.Errorf("join the container's process ids: %w", err)
	}
	if err := restrict(pl.p, pl.id); err != nil {
		return 0, err
	}
	late, err := pl.lateFilter()
	if err != nil {
		return 0, err
	}
	return pl.fork(late)
}

// lateFilter returns the filter that the command's process installs itself, as its last
// step, and installs it at once where that would be too late: who traces a process without
// one has none.
func (pl *payload) lateFilter() (*unix.SockFprog, error) {
	p := pl.p
	switch {
	case !p.NoNewPrivs: // it is on
		return nil, nil
	case p.Bounding&(1<<unix.CAP_SYS_PTRACE) != 0:
		return nil, filter(p.Seccomp, 0)
	}
	return assemble(p.Seccomp)
}

// fork starts the command in this thread's pid namespace for children, with its rights.
func (pl *payload) fork(filter *unix.SockFprog) (pid int, err error) {
	p, err := rawfork.NewProgram(pl.program(rawfork.ProgramConfig{Filter: filter}))
	if err != nil {
		return 0, err
	}
	defer p.Close()
	pid, errno := rawfork.Clone(unix.CLONE_PARENT|unix.CLONE_VFORK, execute, unsafe.Pointer(p))
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, fmt.Errorf("fork in the container: %w", errno)
	}
	return pid, pl.outcome(p)
}

// errEnded is the error of joining a container that is no more.
var errEnded = errors.New("the container has ended")

// hasEnded reports whether the process of a pidfd has ended.
func hasEnded(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1
}
