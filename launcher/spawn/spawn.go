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

// maxFiles bounds Config.Files: the standard streams, a few more, and those that a
// command is given besides.
const maxFiles = 72

// firstFree is where duplicates of the files lie before they are put in place.
const firstFree = 2 * maxFiles

// Start starts the program, in "/" and at the head of a session, as a child of the caller,
// who waits for it, and returns its pidfd, which is the caller's to close. It is killed
// when the calling thread ends, to which the caller has locked its goroutine until then.
// An error of making the namespaces is that of clone(2).
func Start(c Config) (pid, pidfd int, err error) {
	if len(c.Files) > maxFiles {
		return 0, -1, fmt.Errorf("%d files, want at most %d", len(c.Files), maxFiles)
	}
	p, err := newPlan(c)
	if err != nil {
		return 0, -1, err
	}
	defer p.close()
	args := rawfork.CloneArgs{
		Flags: uint64(c.New) | unix.CLONE_PIDFD, ExitSignal: uint64(unix.SIGCHLD), Pidfd: uint64(uintptr(unsafe.Pointer(&p.told.pidfd))),
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
	if p.told.errno != 0 {
		unix.Close(int(p.told.pidfd))
		_, _ = rawfork.Wait(pid) // it has told already
		return 0, -1, fmt.Errorf("%s: %w", stepNames[p.told.step], syscall.Errno(p.told.errno))
	}
	return pid, int(p.told.pidfd), nil
}

// Steps of the child, as told tells of them.
const (
	stepMap = iota
	stepKeep
	stepPlace
	stepFiles
	stepExecute
)

// stepNames are the steps in words.
var stepNames = [...]string{
	stepMap:     "map the caller's ids",
	stepKeep:    "keep capabilities",
	stepPlace:   "leave the caller's session and directory",
	stepFiles:   "pass descriptors",
	stepExecute: "execute it",
}

// told is what the child tells, and the kernel of it. It lies outside of Go's memory: by
// its address alone, a variable of a goroutine's stack would be missed once that moves.
type told struct {
	step  int32 // the last that was begun
	errno int32 // why it failed; 0 if it did not
	pidfd int32
}

// A write is one of a file by its name.
type write struct {
	path    *byte
	content *byte
	size    uintptr
}

// A plan is all that the child needs, ready for it.
type plan struct {
	own        bool
	slack      uintptr
	writes     [3]write // of ids
	exe        int
	empty      *byte
	root       *byte
	argv, envv **byte
	files      [maxFiles]int
	count      int
	caps       struct {
		header unix.CapUserHeader
		data   [2]unix.CapUserData
	}
	told *told
	mem  []byte // what told lies in
}

// newPlan makes a plan ready. It must be closed.
func newPlan(c Config) (*plan, error) {
	p := &plan{own: c.Own, slack: uintptr(c.TimerSlack), exe: c.Exe, count: len(c.Files)}
	copy(p.files[:], c.Files)
	p.caps.header.Version = unix.LINUX_CAPABILITY_VERSION_3
	argv, err := syscall.SlicePtrFromStrings(c.Args)
	if err != nil {
		return nil, fmt.Errorf("an argument: %w", err)
	}
	envv, err := syscall.SlicePtrFromStrings(c.Env)
	if err != nil {
		return nil, fmt.Errorf("the environment: %w", err)
	}
	p.argv, p.envv = &argv[0], &envv[0]
	p.empty, p.root = bytePtr(""), bytePtr("/")
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
	if p.mem, err = unix.Mmap(-1, 0, int(unsafe.Sizeof(told{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("map memory: %w", err)
	}
	p.told = (*told)(unsafe.Pointer(&p.mem[0]))
	return p, nil
}

// bytePtr is a string of ours, which has no zero byte, as system calls take it.
func bytePtr(s string) *byte { return &append([]byte(s), 0)[0] }

func (p *plan) close() {
	p.told = nil
	unix.Munmap(p.mem)
}
