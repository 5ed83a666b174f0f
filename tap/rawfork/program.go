// SPDX-License-Identifier: Apache-2.0

package rawfork

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxFiles bounds ProgramConfig.Files: the standard streams, a few more, and those that a
// command is given besides.
const MaxFiles = 72

// ProgramConfig says what a Program executes. Args and Files are needed.
type ProgramConfig struct {
	// Path is the program, looked up where the child is by then. Empty is Exe itself, an
	// open file, which stays the caller's.
	Path string
	Exe  int
	// Args and Env are as execve(2) takes them.
	Args, Env []string
	// Files become its descriptors from 0 on, and stay the caller's. It gets no other:
	// all are closed by execve, unless they are so already, as Closed says.
	Files  []int
	Closed bool
	// Terminal is the descriptor of the terminal that becomes its session's; 0 is none.
	Terminal int
	// Gate is a descriptor of which the child reads a byte before all else; 0 is none.
	Gate int
	// Stays has the child live on when the thread that started it ends.
	Stays bool
	// Limits are set last but for the filter: what they forbid is not needed any more.
	Limits []Limit
	// Filter is a seccomp filter (seccomp(2)) that is installed before all else is
	// executed; nil is none.
	Filter *unix.SockFprog
}

// A Limit is a resource limit (prlimit(2)): of RLIMIT_*, and what it is to be.
type Limit struct {
	Resource int
	unix.Rlimit
}

// A Program is what a child of Clone, Again or Vfork executes, and the memory by which the
// child tells of it: all that is needed lies ready.
type Program struct {
	// Told is what the child tells. It lies in memory that is shared with the child,
	// until Close.
	Told *Told

	exe        int // -1: path is
	path       *byte
	argv, envv **byte
	files      [MaxFiles]int
	count      int
	closed     bool
	terminal   int
	gate       int
	opened     byte // what was read of it
	stays      bool
	limits     []Limit
	filter     *unix.SockFprog
	mem        []byte // what Told lies in
}

// Told is what a child tells its parent.
type Told struct {
	Step  int32 // the last that was begun: the caller's own, or one of Execute's
	Errno int32 // why it failed; 0 if it did not
	PID   int32 // the caller's to use
	Pidfd int32 // the caller's to use
	Limit int32 // the place in ProgramConfig.Limits of the one that StepLimits set last
}

// Steps of Program.Execute, in their order. Those that a caller has before are its own,
// and lower.
const (
	StepGate     = 0x100 + iota // wait for the parent
	StepSession                 // die with the parent, lead a session
	StepTerminal                // take the terminal
	StepFiles                   // put descriptors in place
	StepLimits                  // set resource limits
	StepFilter                  // install the filter
	StepExecute
)

// NewProgram makes a Program ready, which the caller closes.
func NewProgram(c ProgramConfig) (*Program, error) {
	if len(c.Files) > MaxFiles {
		return nil, fmt.Errorf("%d files, want at most %d", len(c.Files), MaxFiles)
	}
	p := &Program{exe: c.Exe, count: len(c.Files), closed: c.Closed, terminal: c.Terminal, gate: c.Gate, stays: c.Stays, limits: c.Limits, filter: c.Filter}
	if c.Path != "" {
		p.exe = -1
	}
	copy(p.files[:], c.Files)
	var err error
	if p.path, err = syscall.BytePtrFromString(c.Path); err != nil {
		return nil, fmt.Errorf("the program's path: %w", err)
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
	if p.mem, err = unix.Mmap(-1, 0, int(unsafe.Sizeof(Told{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("map memory: %w", err)
	}
	p.Told = (*Told)(unsafe.Pointer(&p.mem[0]))
	return p, nil
}

// Close frees the memory of Told. It may be called once.
func (p *Program) Close() {
	p.Told = nil
	unix.Munmap(p.mem)
}

// Failure is the error of the step of Execute that failed: an errno, and what it was for.
func (p *Program) Failure() error {
	errno := syscall.Errno(p.Told.Errno)
	switch p.Told.Step {
	case StepGate:
		return fmt.Errorf("wait for the parent: %w", errno)
	case StepSession:
		return fmt.Errorf("leave the caller's session: %w", errno)
	case StepTerminal:
		return fmt.Errorf("take the terminal: %w", errno)
	case StepFiles:
		return fmt.Errorf("pass descriptors: %w", errno)
	case StepLimits:
		return fmt.Errorf("set a resource limit: %w", errno)
	case StepFilter:
		return fmt.Errorf("install the seccomp filter: %w", errno)
	}
	return fmt.Errorf("execute it: %w", errno)
}

// Execute executes the program at the head of a session of its own, in the child, which is
// killed when the thread that started it ends, unless it Stays. It does not return: what
// fails is told, and ends the child.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (p *Program) Execute() {
	p.Told.Step = StepGate
	if p.gate != 0 {
		if n, _, _ := syscall.RawSyscall(unix.SYS_READ, uintptr(p.gate), uintptr(unsafe.Pointer(&p.opened)), 1); n != 1 {
			p.Fail(unix.EPIPE)
		}
	}
	p.Told.Step = StepSession
	if !p.stays {
		if _, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0); errno != 0 {
			p.Fail(errno)
		}
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0); errno != 0 {
		p.Fail(errno)
	}
	p.Told.Step = StepTerminal
	if p.terminal != 0 {
		if _, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(p.terminal), unix.TIOCSCTTY, 0); errno != 0 {
			p.Fail(errno)
		}
	}
	p.Told.Step = StepFiles
	if errno := p.pass(); errno != 0 {
		p.Fail(errno)
	}
	p.Told.Step = StepLimits
	for i := range p.limits {
		p.Told.Limit = int32(i)
		l := &p.limits[i]
		if _, _, errno := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, uintptr(l.Resource), uintptr(unsafe.Pointer(&l.Rlimit)), 0, 0, 0); errno != 0 {
			p.Fail(errno)
		}
	}
	Unblock() // before a filter that may forbid it
	p.Told.Step = StepFilter
	if p.filter != nil {
		if _, _, errno := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(p.filter))); errno != 0 {
			p.Fail(errno)
		}
	}
	p.Told.Step = StepExecute
	var errno syscall.Errno
	if p.exe < 0 {
		_, _, errno = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)), uintptr(unsafe.Pointer(p.argv)), uintptr(unsafe.Pointer(p.envv)))
	} else {
		_, _, errno = syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(p.exe), uintptr(unsafe.Pointer(p.path)),
			uintptr(unsafe.Pointer(p.argv)), uintptr(unsafe.Pointer(p.envv)), unix.AT_EMPTY_PATH, 0)
	}
	p.Fail(errno)
}

// Fail tells why the step in Told failed, and ends the child.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (p *Program) Fail(errno syscall.Errno) {
	p.Told.Errno = int32(errno)
	syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
}

// pass puts the descriptors in place, and has execve(2) close all others. One that lies
// where another is to be is duplicated first, and so is the program's own.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (p *Program) pass() syscall.Errno {
	var errno syscall.Errno
	if p.exe >= 0 && p.exe < p.count {
		if p.exe, errno = p.duplicate(p.exe); errno != 0 {
			return errno
		}
	}
	for i := 0; i < p.count; i++ {
		if fd := p.files[i]; fd < i { // one that lies further up is not overwritten before
			if p.files[i], errno = p.duplicate(fd); errno != 0 {
				return errno
			}
		}
	}
	for i := 0; i < p.count; i++ {
		if fd := p.files[i]; fd == i {
			_, _, errno = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0)
		} else {
			_, _, errno = syscall.RawSyscall(unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
		}
		if errno != 0 {
			return errno
		}
	}
	if p.closed {
		return 0
	}
	_, _, errno = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, uintptr(p.count), uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	return errno
}

// duplicate returns a duplicate that lies above all files.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (p *Program) duplicate(fd int) (int, syscall.Errno) {
	dup, _, errno := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, uintptr(p.count))
	return int(dup), errno
}
