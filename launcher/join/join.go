// SPDX-License-Identifier: Apache-2.0

package join

import (
	"errors"
	"fmt"
	"io"
	"os"
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

// maxFiles bounds Config.Files: the standard streams, a few more, and those that a
// command is given besides; maxJoin
// Config.Join: each kind of namespace may be a file of its own.
const (
	maxFiles = 72
	maxJoin  = 8
)

// firstFree is where duplicates of the files lie before they are put in place.
const firstFree = 2 * maxFiles

// Start starts a process, which is the caller's child: Wait waits for it. It is
// killed when the calling thread ends, to which the caller has locked its goroutine
// until then.
func Start(c Config) (pid int, err error) {
	if len(c.Files) > maxFiles || len(c.Join) > maxJoin {
		return 0, fmt.Errorf("start in the container: %d files and %d namespaces, want at most %d and %d", len(c.Files), len(c.Join), maxFiles, maxJoin)
	}
	p, err := newPlan(c)
	if err != nil {
		return 0, fmt.Errorf("start in the container: %w", err)
	}
	defer p.close()
	first, errno := rawfork.Clone(0, enter, unsafe.Pointer(p))
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, fmt.Errorf("start in the container: fork: %w", errno)
	}
	if _, err := rawfork.Wait(first); err != nil {
		return 0, err
	}
	p.executing.Close()
	_, _ = io.Copy(io.Discard, p.executed) // until it executes, or ends
	if p.told.pid == 0 || p.told.errno != 0 {
		if p.told.pid != 0 {
			_, _ = rawfork.Wait(int(p.told.pid))
		}
		return 0, p.failure()
	}
	return int(p.told.pid), nil
}

// Wait waits for the end of a process of Start.
func Wait(pid int) (unix.WaitStatus, error) { return rawfork.Wait(pid) }

// Steps of the children, as told tells of them.
const (
	stepHide = 1 + iota
	stepJoin
	stepFork
	stepFiles
	stepExecute
)

// told is the memory that parent and children share.
type told struct {
	pid   int32 // of the second child
	step  int32 // the last that was begun
	errno int32 // why it failed; 0 if it did not
}

// A plan is all that the children need, ready for them.
type plan struct {
	join       [maxJoin]Namespaces
	joins      int
	make       uintptr
	exe        int
	empty      *byte
	argv, envv **byte
	files      [maxFiles]int
	count      int
	told       *told

	mem                 []byte   // what told lies in
	executed, executing *os.File // a pipe, whose end is closed by execve
}

// newPlan makes a plan ready. It must be closed.
func newPlan(c Config) (_ *plan, err error) {
	p := &plan{make: c.New}
	p.joins = copy(p.join[:], c.Join)
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.mem, err = unix.Mmap(-1, 0, int(unsafe.Sizeof(told{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("map memory: %w", err)
	}
	p.told = (*told)(unsafe.Pointer(&p.mem[0]))
	if p.executed, p.executing, err = os.Pipe(); err != nil {
		return nil, err
	}
	if p.empty, err = syscall.BytePtrFromString(""); err != nil {
		return nil, err
	}
	argv, err := syscall.SlicePtrFromStrings(c.Args)
	if err != nil {
		return nil, fmt.Errorf("an argument: %w", err)
	}
	envv, err := syscall.SlicePtrFromStrings(c.Env)
	if err != nil {
		return nil, fmt.Errorf("the environment: %w", err)
	}
	p.argv, p.envv = &argv[0], &envv[0]
	if p.exe, err = duplicate(c.Exe); err != nil {
		p.exe = 0
		return nil, err
	}
	for _, f := range c.Files {
		if p.files[p.count], err = duplicate(f); err != nil {
			return nil, err
		}
		p.count++
	}
	return p, nil
}

// duplicate returns a duplicate of fd, above all places it may be put in.
func duplicate(fd int) (int, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFree)
	if err != nil {
		return -1, fmt.Errorf("duplicate a descriptor: %w", err)
	}
	return dup, nil
}

// close frees what the plan holds.
func (p *plan) close() {
	if p.exe > 0 {
		unix.Close(p.exe)
	}
	for _, fd := range p.files[:p.count] {
		unix.Close(fd)
	}
	for _, f := range []*os.File{p.executed, p.executing} {
		if f != nil {
			f.Close()
		}
	}
	if p.mem != nil {
		p.told = nil
		unix.Munmap(p.mem)
	}
}

// failure says what the children could not do.
func (p *plan) failure() error {
	errno := syscall.Errno(p.told.errno)
	switch {
	case errno == 0:
		return errors.New("start in the container: the process on the way there was killed")
	case p.told.step == stepJoin && errno == unix.ESRCH:
		return ErrGone
	case p.told.step == stepJoin && errno == unix.EINVAL:
		return fmt.Errorf("join the container's namespaces: %w: that needs Linux 5.8", errno)
	case p.told.step == stepJoin:
		return fmt.Errorf("join the container's namespaces: %w", errno)
	case p.told.step == stepHide:
		return fmt.Errorf("start in the container: make the process untraceable: %w", errno)
	case p.told.step == stepFork && errno == unix.ENOMEM: // its pid namespace takes nobody any more
		return ErrGone
	case p.told.step == stepFork:
		return fmt.Errorf("start in the container: fork: %w", errno)
	case p.told.step == stepFiles:
		return fmt.Errorf("start in the container: pass descriptors: %w", errno)
	}
	return fmt.Errorf("start in the container: execute the init stage: %w", errno)
}

// enter is all that the children do.
//
//go:nosplit
//go:norace
//go:nocheckptr
func enter(arg unsafe.Pointer) {
	p := (*plan)(arg)
	p.told.step = stepHide
	if _, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0, 0); errno != 0 {
		fail(p, errno)
	}
	p.told.step = stepJoin
	for i := 0; i < p.joins; i++ {
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETNS, uintptr(p.join[i].FD), p.join[i].Flags, 0); errno != 0 {
			fail(p, errno)
		}
	}
	// The capabilities survive execve only with id 0, which the caller may not have
	// there. Where nobody has it, what is executed will say what it lacks.
	syscall.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0)
	syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
	p.told.step = stepFork
	pid, errno := rawfork.Again(unix.CLONE_PARENT | p.make)
	if errno != 0 {
		fail(p, errno)
	}
	if pid != 0 {
		p.told.pid = int32(pid)
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	execute(p)
}

// execute is what the second child does.
//
//go:nosplit
//go:norace
//go:nocheckptr
func execute(p *plan) {
	p.told.step = stepFiles
	if _, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0); errno != 0 {
		fail(p, errno)
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0); errno != 0 {
		fail(p, errno)
	}
	for i := 0; i < p.count; i++ {
		if _, _, errno := syscall.RawSyscall(unix.SYS_DUP3, uintptr(p.files[i]), uintptr(i), 0); errno != 0 {
			fail(p, errno)
		}
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, uintptr(p.count), uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC); errno != 0 {
		fail(p, errno)
	}
	p.told.step = stepExecute
	rawfork.Unblock()
	_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(p.exe), uintptr(unsafe.Pointer(p.empty)),
		uintptr(unsafe.Pointer(p.argv)), uintptr(unsafe.Pointer(p.envv)), unix.AT_EMPTY_PATH, 0)
	fail(p, errno)
}

// fail tells why the last step failed, and ends the child.
//
//go:nosplit
//go:norace
//go:nocheckptr
func fail(p *plan, errno syscall.Errno) {
	p.told.errno = int32(errno)
	syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
}
