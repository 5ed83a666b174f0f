// SPDX-License-Identifier: Apache-2.0

package spawn

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/slipway-net/slipway/tap/rawfork"
	"golang.org/x/sys/unix"
)

// Config says what to start. Exe, Args and Files are needed.
type Config struct {
	// New are the CLONE_NEW* flags of the namespaces.
	New uintptr
	// Own maps the caller's ids to 0, and no others. Without it none are mapped yet, and
	// the program keeps its capabilities in the new user namespace by the ambient set.
	Own bool
	// Exe is the binary to execute, an open file that stays the caller's. Args and Env
	// are as execve(2) takes them.
	Exe  int
	Args []string
	Env  []string
	// Files become its descriptors from 0 on, and stay the caller's. It gets no other.
	Files []int
	// TimerSlack is that of the program's threads in nanoseconds (prctl(2),
	// PR_SET_TIMERSLACK); 0 is the caller's.
	TimerSlack uint64
	// Cgroup is an open directory of the control group to start in; 0 is the caller's.
	Cgroup int
}

// Start starts the program, in "/" and at the head of a session, as a child of the caller,
// who waits for it, and returns its pidfd, which is the caller's to close. It is killed
// when the calling thread ends, to which the caller has locked its goroutine until then.
// An error of making the namespaces is that of clone(2).
func Start(c Config) (pid, pidfd int, err error) {
	p, err := newPlan(c)
	if err != nil {
		return 0, -1, err
	}
	defer p.program.Close()
	told := p.program.Told
	args := rawfork.CloneArgs{
		Flags: uint64(c.New) | unix.CLONE_PIDFD, ExitSignal: uint64(unix.SIGCHLD), Pidfd: uint64(uintptr(unsafe.Pointer(&told.Pidfd))),
	}
	if c.Cgroup != 0 {
		args.Flags |= unix.CLONE_INTO_CGROUP
		args.Cgroup = uint64(c.Cgroup)
	}
	pid, errno := rawfork.Vfork(&args, enter, unsafe.Pointer(p))
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, -1, os.NewSyscallError("clone", errno)
	}
	if told.Errno != 0 {
		unix.Close(int(told.Pidfd))
		_, _ = rawfork.Wait(pid) // it has told already
		return 0, -1, p.failure()
	}
	return pid, int(told.Pidfd), nil
}

// Steps of the child before those of rawfork.Program.
const (
	stepMap = 1 + iota
	stepKeep
	stepPlace
)

// failure says what the child could not do.
func (p *plan) failure() error {
	errno := syscall.Errno(p.program.Told.Errno)
	switch p.program.Told.Step {
	case stepMap:
		return fmt.Errorf("map the caller's ids: %w", errno)
	case stepKeep:
		return fmt.Errorf("keep capabilities: %w", errno)
	case stepPlace:
		return fmt.Errorf("leave the caller's directory: %w", errno)
	}
	return p.program.Failure()
}

// A write is one of a file by its name.
type write struct {
	path    *byte
	content *byte
	size    uintptr
}

// A plan is all that the child needs, ready for it.
type plan struct {
	own    bool
	slack  uintptr
	writes [3]write // of ids
	root   *byte
	caps   struct {
		header unix.CapUserHeader
		data   [2]unix.CapUserData
	}
	program *rawfork.Program // whose Told.Pidfd is the child's
}

// newPlan makes a plan ready, whose program must be closed.
func newPlan(c Config) (*plan, error) {
	p := &plan{own: c.Own, slack: uintptr(c.TimerSlack), root: bytePtr("/")}
	p.caps.header.Version = unix.LINUX_CAPABILITY_VERSION_3
	if c.Own {
		for i, w := range [...][2]string{
			{"/proc/self/uid_map", fmt.Sprintf("0 %d 1\n", os.Geteuid())},
			// Who may not set groups may map a gid of its own (user_namespaces(7)).
			{"/proc/self/setgroups", "deny"},
			{"/proc/self/gid_map", fmt.Sprintf("0 %d 1\n", os.Getegid())},
		} {
			p.writes[i] = write{bytePtr(w[0]), bytePtr(w[1]), uintptr(len(w[1]))}
		}
	}
	var err error
	p.program, err = rawfork.NewProgram(rawfork.ProgramConfig{Exe: c.Exe, Args: c.Args, Env: c.Env, Files: c.Files})
	return p, err
}

// bytePtr is a string of ours, which has no zero byte, as system calls take it.
func bytePtr(s string) *byte { return &append([]byte(s), 0)[0] }
