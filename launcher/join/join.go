// SPDX-License-Identifier: Apache-2.0

package join

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/slipway-net/slipway/tap/rawfork"
	"golang.org/x/sys/unix"
)

// ErrGone says that the process whose namespaces were to be joined has ended.
var ErrGone = errors.New("the container has ended")

// A Namespaces is what setns(2) joins: FD is a pidfd, or an open file of a namespace,
// which stays the caller's, and Flags are CLONE_NEW*.
type Namespaces struct {
	FD    int
	Flags uintptr
}

// Config says what to start where. All fields but New are needed.
type Config struct {
	// Join is joined in this order: a user namespace goes before what it owns.
	Join []Namespaces
	// New are the CLONE_NEW* flags of namespaces that the process gets of its own, in
	// the user namespace it joins.
	New uintptr
	// Exe is the binary to execute, an open file that stays the caller's. Args and
	// Env are as execve(2) takes them.
	Exe  int
	Args []string
	Env  []string
	// Files become its descriptors from 0 on; it has no other, and leads a session of
	// its own.
	Files []int
}

// maxJoin bounds Config.Join: each kind of namespace may be a file of its own.
const maxJoin = 8

// Start starts a process, which is the caller's child: Wait waits for it. It is
// killed when the calling thread ends, to which the caller has locked its goroutine
// until then.
func Start(c Config) (pid int, err error) {
	p, err := newPlan(c)
	if err != nil {
		return 0, fmt.Errorf("start in the container: %w", err)
	}
	defer p.program.Close()
	first, errno := rawfork.Clone(0, enter, unsafe.Pointer(p))
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, fmt.Errorf("start in the container: fork: %w", errno)
	}
	if _, err := rawfork.Wait(first); err != nil {
		return 0, err
	}
	told := p.program.Told
	if told.PID == 0 || told.Errno != 0 {
		if told.PID != 0 {
			_, _ = rawfork.Wait(int(told.PID))
		}
		return 0, p.failure()
	}
	return int(told.PID), nil
}

// Wait waits for the end of a process of Start.
func Wait(pid int) (unix.WaitStatus, error) { return rawfork.Wait(pid) }

// Steps of the children before those of rawfork.Program.
const (
	stepHide = 1 + iota
	stepJoin
	stepFork
)

// A plan is all that the children need, ready for them.
type plan struct {
	join    [maxJoin]Namespaces
	joins   int
	make    uintptr
	program *rawfork.Program // whose Told.PID is that of the second child
}

// newPlan makes a plan ready, whose program must be closed.
func newPlan(c Config) (*plan, error) {
	if len(c.Join) > maxJoin {
		return nil, fmt.Errorf("%d namespaces, want at most %d", len(c.Join), maxJoin)
	}
	p := &plan{make: c.New}
	p.joins = copy(p.join[:], c.Join)
	var err error
	p.program, err = rawfork.NewProgram(rawfork.ProgramConfig{Exe: c.Exe, Args: c.Args, Env: c.Env, Files: c.Files})
	return p, err
}

// failure says what the children could not do.
func (p *plan) failure() error {
	step, errno := p.program.Told.Step, syscall.Errno(p.program.Told.Errno)
	switch {
	case errno == 0:
		return errors.New("start in the container: the process on the way there was killed")
	case step == stepJoin && errno == unix.ESRCH:
		return ErrGone
	case step == stepJoin && errno == unix.EINVAL:
		return fmt.Errorf("join the container's namespaces: %w: that needs Linux 5.8", errno)
	case step == stepJoin:
		return fmt.Errorf("join the container's namespaces: %w", errno)
	case step == stepHide:
		return fmt.Errorf("start in the container: make the process untraceable: %w", errno)
	case step == stepFork && errno == unix.ENOMEM: // its pid namespace takes nobody any more
		return ErrGone
	case step == stepFork:
		return fmt.Errorf("start in the container: fork: %w", errno)
	}
	return fmt.Errorf("start in the container: %w", p.program.Failure())
}

// enter is what the children do before one of them executes.
//
//go:nosplit
//go:norace
//go:nocheckptr
func enter(arg unsafe.Pointer) {
	p := (*plan)(arg)
	told := p.program.Told
	told.Step = stepHide
	if _, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0, 0); errno != 0 {
		p.program.Fail(errno)
	}
	told.Step = stepJoin
	for i := 0; i < p.joins; i++ {
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETNS, uintptr(p.join[i].FD), p.join[i].Flags, 0); errno != 0 {
			p.program.Fail(errno)
		}
	}
	// The capabilities survive execve only with id 0, which the caller may not have
	// there. Where nobody has it, what is executed will say what it lacks.
	syscall.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0)
	syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
	told.Step = stepFork
	// It returns here when the other one has executed, or has ended.
	pid, errno := rawfork.Again(unix.CLONE_PARENT | unix.CLONE_VFORK | p.make)
	if errno != 0 {
		p.program.Fail(errno)
	}
	if pid != 0 {
		told.PID = int32(pid)
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	p.program.Execute()
}
