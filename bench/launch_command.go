// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settleWait is how long a process that an engine left in the background may take to
	// end. What lives longer belongs to the engine, as Podman's process that holds its
	// namespaces does, and stays until the run is over.
	settleWait = time.Second
	settleLook = time.Millisecond
)

// do runs a command of an engine for at most limit and returns what it used.
func (y *yard) do(ctx context.Context, limit time.Duration, argv ...string) (usage, error) {
	before, err := childrenCPU()
	if err != nil {
		return usage{}, err
	}
	r, err := y.command(ctx, limit, argv, nil)
	if err != nil {
		return usage{}, err
	}
	defer r.out.Close()
	err = r.wait()
	if err = errors.Join(err, y.settle()); err != nil {
		return usage{}, err
	}
	after, err := childrenCPU()
	return usage{Time: r.took, CPU: after - before, output: r.output()}, err
}

// A usage is what a command took, and what it wrote.
type usage struct {
	Time time.Duration
	CPU  float64 // seconds, of all its processes that have ended
	output
}

// childrenCPU returns the CPU time of all processes that we have waited for, and that
// they have (getrusage(2)).
func childrenCPU() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		return 0, fmt.Errorf("read the CPU time of what has ended: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), nil
}

// A launched is a running command of an engine.
type launched struct {
	cmd    *exec.Cmd
	ctx    context.Context
	cancel context.CancelFunc
	out    *os.File // what it writes, both streams, in memory
	limit  time.Duration
	began  time.Time
	took   time.Duration
}

// command starts a command with the yard's environment, in a session of its own, which
// is killed after limit. Its standard input is empty unless there is one. The caller
// waits for it, and then closes its output.
func (y *yard) command(ctx context.Context, limit time.Duration, argv []string, in *os.File) (*launched, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("keep the output of %s: %w", argv[0], err)
	}
	r := &launched{out: os.NewFile(uintptr(fd), "output"), limit: limit}
	r.ctx, r.cancel = context.WithTimeout(ctx, limit)
	r.cmd = exec.CommandContext(r.ctx, argv[0], argv[1:]...)
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = y.dir, y.env, r.out, r.out
	if in != nil {
		r.cmd.Stdin = in
	}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	r.began = time.Now()
	if err := y.home.start(r.cmd); err != nil {
		r.cancel()
		r.out.Close()
		return nil, fmt.Errorf("start %s: %w", filepath.Base(argv[0]), err)
	}
	return r, nil
}

// wait waits for the command's end, which must be a good one.
func (r *launched) wait() error {
	defer r.cancel()
	err := r.cmd.Wait()
	r.took = time.Since(r.began)
	if r.ctx.Err() != nil {
		err = fmt.Errorf("it did not end within %s", r.limit)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(r.cmd.Path), err, r.output().said())
	}
	return nil
}

// An output is the beginning of what a program wrote.
type output struct {
	program string
	text    string
}

// output returns what the command has written until now.
func (r *launched) output() output {
	b := make([]byte, maxHead)
	n, err := r.out.ReadAt(b, 0)
	if err != nil && n == 0 {
		n = 0 // then there is none to quote
	}
	return output{filepath.Base(r.cmd.Path), string(b[:n])}
}

// said is the last line of it, for messages.
func (o output) said() string {
	if text := excerpt(lastLine(o.text)); text != "" {
		return text
	}
	return "(it printed nothing)"
}

// settle waits until what engines left in the background has ended, and takes what does
// not end for theirs.
func (y *yard) settle() error {
	for end := time.Now().Add(settleWait); ; {
		pids, err := children(os.Getpid())
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool {
			got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
			return got == pid || errors.Is(err, unix.ECHILD) || y.stays[pid]
		})
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(end) {
			for _, pid := range pids {
				y.stays[pid] = true
			}
			return nil
		}
		time.Sleep(settleLook)
	}
}
