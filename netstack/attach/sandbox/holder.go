// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The runtime's bracket around fork(2): they block all signals on this thread and
// make the parent able to go on. Package syscall uses them for the same.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

// A holder is a process that stands in the namespaces of the thread that made it, so
// that others can enter these by its descriptor. It does nothing, and is killed when
// the thread that made it ends.
type holder struct {
	pid   int
	pidfd int32
}

// newHolder forks a holder from the calling thread, to which the caller is locked.
func newHolder() (*holder, error) {
	h := &holder{pidfd: -1}
	pid, errno := forkHolder(&h.pidfd)
	if errno != 0 {
		return nil, fmt.Errorf("fork a process to hold the namespaces: %w", errno)
	}
	h.pid = int(pid)
	return h, nil
}

// close ends the holder.
func (h *holder) close() error {
	defer unix.Close(int(h.pidfd))
	if err := unix.Kill(h.pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("end the process that holds the namespaces: %w", err)
	}
	for {
		// Its exit signal is none, so that only who looks for it finds it.
		if _, err := unix.Wait4(h.pid, nil, unix.WALL, nil); err != unix.EINTR {
			return nil
		}
	}
}

// forkHolder forks. From beforeFork to afterFork nothing may allocate or grow the
// stack, and the child does nothing but system calls. Its memory and its descriptors
// are copies: what it holds open for its short life are references to what we have.
// Only the two architectures that the filter knows are served, whose clone(2) takes
// its arguments in one order.
//
//go:noinline
//go:norace
//go:nocheckptr
func forkHolder(pidfd *int32) (pid uintptr, errno syscall.Errno) {
	beforeFork()
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_PIDFD, 0, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	if errno == 0 && pid == 0 {
		hold()
	}
	afterFork()
	return pid, errno
}

// hold is all that the child does: wait to be killed.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func hold() {
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
	for {
		// Nothing to wait for, and no limit of time.
		syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}
