// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"github.com/slipway-net/slipway/tap/rawfork"
	"golang.org/x/sys/unix"
)

// Marks in shared.state.
const (
	stateDone   = 1 // the child came to the end of the script
	stateFailed = 2 // the step at shared.at failed and had no way on
)

// Sizes of what a script may hold.
const (
	maxSteps  = 160
	arenaSize = 32 << 10 // bytes for all buffers of a script
)

// shared is the memory by which the child tells the parent what it did: a mapping of
// its own, which the two have in common on every architecture, so that it is found
// there even when the child was killed half-way. Everything the child writes to lies
// in it.
type shared struct {
	state uint32
	at    uint32
	regs  [regCount]int64 // results of steps; all of them file descriptors, -1 = none
	errno [maxSteps]uint32
	pause unix.Timespec // between the attempts of opAwait
	used  uint32
	arena [arenaSize]byte
}

// fork runs the script in a child process that shares this process' file descriptors and,
// where rawfork.Vfork can do that, memory, but not its credentials, and waits for its end. The error is about the
// fork itself; what the script did stands in m.
//
// The child's exit signal is none rather than SIGCHLD: no SIGCHLD handler and no
// wait4(-1) of the surrounding program, such as a reaping pid 1, sees it.
func fork(m *shared, steps []step) error {
	dumpable.Lock()
	defer dumpable.Unlock()
	defer keepDumpable()()
	j := job{m, steps}
	args := rawfork.CloneArgs{Flags: unix.CLONE_FILES}
	pid, errno := rawfork.Vfork(&args, execute, unsafe.Pointer(&j))
	runtime.KeepAlive(&j)
	if errno != 0 {
		return fmt.Errorf("fork: %w", errno)
	}
	ws, err := rawfork.Wait(pid)
	switch {
	case err != nil:
		return fmt.Errorf("enter the namespace: %w", err)
	case ws.Signaled():
		return fmt.Errorf("the child that enters the namespace was killed: %s", unix.SignalName(ws.Signal()))
	}
	return nil
}

// dumpable is held while a child of ours may make the process undumpable.
var dumpable sync.Mutex

// keepDumpable returns what makes this process dumpable again if it is now. Whoever joins
// a user namespace makes its memory undumpable (commit_creds of kernel/cred.c), and that
// is ours, too. While the child is there, this keeps the processes of that namespace from
// tracing it.
func keepDumpable() (restore func()) {
	const user = 1 // SUID_DUMP_USER of include/linux/sched/coredump.h
	was, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || was != user {
		return func() {}
	}
	return func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, user, 0, 0, 0) }
}

// A job is what the child is given.
type job struct {
	m     *shared
	steps []step
}

// execute is all that the child does: one step after the other, then exit.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func execute(arg unsafe.Pointer) {
	m, steps := (*job)(arg).m, (*job)(arg).steps
	pc := 0
	for pc < len(steps) {
		s := &steps[pc]
		a0 := s.args[0]
		if s.in != noReg {
			a0 = uintptr(m.regs[s.in])
		}
		var r uintptr
		var errno syscall.Errno
		switch s.op {
		case opCall:
			r, _, errno = syscall.RawSyscall6(s.call, a0, s.args[1], s.args[2], s.args[3], 0, 0)
		case opRequest:
			errno = request(m, a0, s.args[1], s.args[2], s.args[3])
		case opAwait:
			errno = await(m, a0, s.args[1], s.args[2], s.args[3])
		case opClose:
			_, _, errno = syscall.RawSyscall(unix.SYS_CLOSE, a0, 0, 0)
			m.regs[s.in] = -1
		case opPatch:
			for i := range uintptr(4) {
				m.arena[s.args[1]+i] = m.arena[s.args[2]+i]
			}
		}
		m.errno[pc] = uint32(errno)
		switch {
		case errno == 0:
			if s.out != noReg {
				m.regs[s.out] = int64(r)
			}
			pc = int(s.then)
		case s.otherwise != abort:
			pc = int(s.otherwise)
		default:
			m.at, m.state = uint32(pc), stateFailed
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
		}
	}
	m.state = stateDone
	syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
}

// request sends the netlink message msg of n bytes on the socket and returns
// the error that its acknowledgement, read into the arena at ack, holds (struct
// nlmsgerr after struct nlmsghdr, include/uapi/linux/netlink.h).
//
//go:nosplit
//go:norace
//go:nocheckptr
func request(m *shared, sock, msg, n, ack uintptr) syscall.Errno {
	got, errno := ask(m, sock, msg, n, ack)
	if errno != 0 {
		return errno
	}
	if got < unix.SizeofNlMsghdr+4 {
		return unix.EPROTO
	}
	return syscall.Errno(-*(*int32)(unsafe.Pointer(&m.arena[ack+unix.SizeofNlMsghdr])))
}

// await asks, by the message msg, for a route until it is a local one, with a
// pause after each attempt, and gives up after awaitTries.
//
//go:nosplit
//go:norace
//go:nocheckptr
func await(m *shared, sock, msg, n, answer uintptr) syscall.Errno {
	for range awaitTries {
		got, errno := ask(m, sock, msg, n, answer)
		if errno != 0 {
			return errno
		}
		kind := *(*uint16)(unsafe.Pointer(&m.arena[answer+nlTypeAt]))
		if got > routeTypeAt && kind == unix.RTM_NEWROUTE && m.arena[answer+routeTypeAt] == unix.RTN_LOCAL {
			return 0
		}
		syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&m.pause)), 0, 0)
	}
	return unix.ETIMEDOUT
}

// ask sends the netlink message msg of n bytes on the socket and reads the answer
// into the arena, as much of it as has room there. It returns its length.
//
//go:nosplit
//go:norace
//go:nocheckptr
func ask(m *shared, sock, msg, n, answer uintptr) (uintptr, syscall.Errno) {
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, sock, msg, n, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	got, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, sock, uintptr(unsafe.Pointer(&m.arena[answer])), ackSize, 0, 0, 0)
	return got, errno
}
