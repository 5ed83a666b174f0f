// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap/rawfork"
)

// A child is a process that is to be the command, under a pid 1 of ours. It has its rights,
// and a memory of its own; until release it does nothing.
type child struct {
	pl      *payload
	pid     int
	program *rawfork.Program
	gate    int // our end of a pair of sockets, whose other end execve closes
	theirs  int
}

// startConfined starts the child from a thread that has the command's rights and no
// others, and which ends then: what stays is to signal whatever user the command is.
func (pl *payload) startConfined() (*child, error) {
	c := &child{pl: pl}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a gate for the command: %w", err)
	}
	c.gate, c.theirs = fds[0], fds[1]
	c.program, err = rawfork.NewProgram(pl.program(rawfork.ProgramConfig{Gate: c.theirs, Stays: true}))
	if err != nil {
		return nil, err
	}
	return c, pl.onThread(func() error {
		if err := confine(pl.p, pl.id); err != nil {
			return err
		}
		return c.start()
	})
}

// onThread calls do on a thread that ends then, with all that it was given and taken.
func (pl *payload) onThread(do func() error) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		pl.starter = unix.Gettid()
		if pl.starter == unix.Getpid() {
			// But for the process's first thread, which Go keeps. While this goroutine
			// has it, another cannot.
			err = pl.onThread(do)
			runtime.UnlockOSThread()
			return
		}
		err = do()
	}()
	<-done
	return err
}

func (c *child) start() error {
	pid, errno := rawfork.Clone(0, execute, unsafe.Pointer(c.program))
	runtime.KeepAlive(c.program)
	if errno != 0 {
		return fmt.Errorf("fork the command: %w", errno)
	}
	c.pid = pid
	return nil
}

// release has the child execute the command. It is called once.
func (c *child) release() error {
	defer c.program.Close()
	defer unix.Close(c.gate)
	unix.Close(c.theirs)
	b := []byte{0}
	_, _ = unix.Write(c.gate, b) // who has ended has told why
	for {
		if _, err := unix.Read(c.gate, b); err != unix.EINTR {
			break
		}
	}
	return c.pl.outcome(c.program)
}

// program is what executes the command, with what c says besides.
func (pl *payload) program(c rawfork.ProgramConfig) rawfork.ProgramConfig {
	c.Path, c.Args, c.Env = pl.argv0, pl.p.Args, pl.p.Env
	c.Files, c.Terminal = []int{0, 1, 2}, max(pl.slave, 0)
	for _, l := range pl.p.Rlimits {
		c.Limits = append(c.Limits, rawfork.Limit{Resource: int(l.Resource), Rlimit: unix.Rlimit{Cur: l.Soft, Max: l.Hard}})
	}
	c.Closed = true // since the stage began; the filter may forbid close_range(2)
	for i, replaced := range pl.p.Streams {
		if replaced && pl.slave >= 0 {
			c.Files[i] = pl.slave
		}
	}
	for _, fd := range pl.p.files() {
		c.Files = append(c.Files, int(fd))
	}
	return c
}

// execute is all that a child does.
//
//go:nosplit
//go:norace
//go:nocheckptr
func execute(arg unsafe.Pointer) { (*rawfork.Program)(arg).Execute() }

// outcome is the error of a child's execution.
func (pl *payload) outcome(p *rawfork.Program) error {
	switch {
	case p.Told.Errno == 0:
		return nil
	case p.Told.Step == rawfork.StepLimits && int(p.Told.Limit) < len(pl.p.Rlimits) && p.Told.Limit >= 0:
		return pl.p.Rlimits[p.Told.Limit].refused(syscall.Errno(p.Told.Errno))
	case p.Told.Step == rawfork.StepExecute:
		return execError(pl.p.Args[0], syscall.Errno(p.Told.Errno))
	}
	return p.Failure()
}
