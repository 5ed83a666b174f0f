// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns/inside"
)

// StageArg is the argv[0] under which a binary is a stage; see IsStage.
const StageArg = "slipway-userns"

// stageWords is the number of words before a stage's own: StageArg and the barrier.
const stageWords = 2

// firstExtra is the descriptor of the first of a command's extra files.
const firstExtra = 3

// lastCap is above every capability of any kernel; those that this one does not know
// are refused by it and left out.
const lastCap = 63

// A Cmd is a stage that is being prepared or run. Its fields are those of exec.Cmd,
// to be set before Start. Each Start that succeeds needs a Wait. It is used once.
type Cmd struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	ExtraFiles     []*os.File // the stage's descriptors from 3 on
	Dir            string     // where it starts; empty is the caller's directory
	Namespaces     uintptr    // CLONE_NEW* of other namespaces for it
	Process        *os.Process

	ctx     context.Context // of the stage's life, as exec.Cmd has it
	mapping Mapping
	name    string
	args    []string
	cmd     *exec.Cmd
}

// Command prepares to run this binary as the stage name with args in a new user
// namespace that has the mapping m. It is killed when ctx is done.
func Command(ctx context.Context, m Mapping, name string, args ...string) *Cmd {
	return &Cmd{ctx: ctx, mapping: m, name: name, args: args}
}

// Start starts the stage and writes its mapping. If it returns an error there is no
// process left.
func (c *Cmd) Start() error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make the barrier of %s: %w", c.name, err)
	}
	defer w.Close()
	defer r.Close()
	c.cmd = exec.CommandContext(c.ctx, "/proc/self/exe")
	c.cmd.Args = append([]string{StageArg, strconv.Itoa(firstExtra + len(c.ExtraFiles)), c.name}, c.args...)
	c.cmd.Env, c.cmd.Dir = inside.Environ(), c.Dir
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	c.cmd.ExtraFiles = append(slices.Clone(c.ExtraFiles), r)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | c.Namespaces,
		AmbientCaps: allCaps(),
		Pdeathsig:   unix.SIGKILL,
	}
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start %s in a user namespace: %w", c.name, err)
	}
	c.Process = c.cmd.Process
	err = c.mapping.Write(c.Process.Pid)
	if err == nil {
		_, err = w.Write([]byte{0})
	}
	if err != nil {
		_ = c.Process.Kill()
		_ = c.Wait() // "signal: killed"
		return fmt.Errorf("start %s in a user namespace: %w", c.name, err)
	}
	return nil
}

// Wait waits for the stage's end; its errors are those of exec.Cmd.
func (c *Cmd) Wait() error { return c.cmd.Wait() }

// Run starts the stage and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// IsStage reports whether a process with these arguments (os.Args) is a stage, for
// which main must call Stage at once.
func IsStage(args []string) bool { return len(args) > stageWords && args[0] == StageArg }

// Stage waits in a stage until its ids are mapped and becomes the root of its
// namespace, with every capability there. It returns the stage's name and words. An
// error means that the caller has gone or that the stage was not started by a Cmd.
func Stage(args []string) (name string, rest []string, err error) {
	fd, err := strconv.Atoi(args[1])
	if err != nil || fd < firstExtra {
		return "", nil, fmt.Errorf("stage %s: no barrier %q", args[stageWords], args[1])
	}
	unix.CloseOnExec(fd)
	if err := inside.Await(fd); err != nil {
		return "", nil, fmt.Errorf("stage %s: %w", args[stageWords], err)
	}
	unix.Close(fd)
	parent := unix.Getppid()
	if err := inside.BecomeRoot(); err != nil {
		return "", nil, fmt.Errorf("stage %s: %w", args[stageWords], err)
	}
	if unix.Getppid() != parent {
		return "", nil, fmt.Errorf("stage %s: the caller has gone", args[stageWords])
	}
	return args[stageWords], args[stageWords+1:], nil
}

// allCaps are the capabilities that this kernel knows, for SysProcAttr.AmbientCaps: a
// process that executes in a new user namespace before its ids are mapped keeps only
// what is ambient.
func allCaps() []uintptr {
	var caps []uintptr
	for c := uintptr(0); c <= lastCap; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			break
		}
		caps = append(caps, c)
	}
	return caps
}
