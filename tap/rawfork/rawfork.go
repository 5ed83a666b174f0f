// SPDX-License-Identifier: Apache-2.0

package rawfork

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The runtime's bracket around fork(2): the first two block all signals on this
// thread and make the parent able to go on; the third makes the child able to
// execute a program, whose signals are neither blocked nor handled. Package syscall
// uses them for the same.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// Clone forks with the flags of clone(2), which must not have CLONE_VM, and runs child
// with arg in the new process; only the parent returns. No signal tells the parent
// of the child's end (so no handler of the surrounding program, and no wait4(-1) of
// a reaping pid 1, sees it): Wait waits for it.
//
// child must be a top-level function with //go:nosplit, //go:norace and
// //go:nocheckptr; so must all that it calls. It must not return, and must not
// touch memory but what the parent keeps alive: it may neither allocate nor grow
// the stack. All signals are blocked in it; see Unblock.
//
//go:noinline
//go:norace
//go:nocheckptr
func Clone(flags uintptr, child func(arg unsafe.Pointer), arg unsafe.Pointer) (pid int, errno syscall.Errno) {
	beforeFork()
	r, errno := clone(flags)
	if errno == 0 && r == 0 {
		child(arg)
	}
	afterFork()
	return int(r), errno
}

// Again forks as Clone does, in a child of Clone. It returns in both, with 0 in the
// new one.
//
//go:nosplit
//go:norace
//go:nocheckptr
func Again(flags uintptr) (pid int, errno syscall.Errno) {
	r, errno := clone(flags)
	return int(r), errno
}

// clone is clone(2) without a stack of its own.
//
//go:nosplit
//go:norace
//go:nocheckptr
func clone(flags uintptr) (uintptr, syscall.Errno) {
	if runtime.GOARCH == "s390x" { // there the first two arguments are swapped (clone(2))
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, 0, flags, 0, 0, 0, 0)
		return pid, errno
	}
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	return pid, errno
}

// Unblock gives a child of Clone or Again the signals back, none of them handled. It
// is for the moment before execve(2).
//
//go:nosplit
//go:norace
//go:nocheckptr
func Unblock() { afterForkInChild() }

// Wait waits for the end of a child.
func Wait(pid int) (unix.WaitStatus, error) {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(pid, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for a child: %w", err)
		}
		return ws, nil
	}
}
