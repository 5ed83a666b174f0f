// SPDX-License-Identifier: Apache-2.0

package rawfork

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CloneArgs are those of clone3(2) (struct clone_args of include/uapi/linux/sched.h).
type CloneArgs struct {
	Flags      uint64
	Pidfd      uint64 // address of an int32 that is on no goroutine's stack, with CLONE_PIDFD
	ChildTID   uint64
	ParentTID  uint64
	ExitSignal uint64
	Stack      uint64
	StackSize  uint64
	TLS        uint64
	SetTID     uint64
	SetTIDSize uint64
	Cgroup     uint64 // a descriptor, with CLONE_INTO_CGROUP
}

// Vfork forks as Clone does, and returns when the child has executed a program or has
// ended. Until then both have the same memory, on amd64 and arm64: nothing of it is copied,
// which is much of what a fork costs. args are without CLONE_VM and CLONE_VFORK, which are
// added; without CLONE_INTO_CGROUP, clone(2) does, which sandboxes allow that do not know
// clone3(2).
//
// child is as for Clone, and has to call Unblock before it executes. It must write to
// nothing but what it finds by arg, and that it has to itself until then; what it has to
// tell the parent lies in a MAP_SHARED mapping all the same.
//
//go:noinline
//go:norace
//go:nocheckptr
func Vfork(args *CloneArgs, child func(arg unsafe.Pointer), arg unsafe.Pointer) (pid int, errno syscall.Errno) {
	args.Flags |= sharedMemory | unix.CLONE_VFORK
	call, a1, a2, a3 := uintptr(unix.SYS_CLONE), uintptr(args.Flags|args.ExitSignal), uintptr(0), uintptr(args.Pidfd)
	if args.Flags&unix.CLONE_INTO_CGROUP != 0 {
		call, a1, a2, a3 = unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0
	}
	beforeFork()
	r, e := vforkChild(call, a1, a2, a3, child, arg)
	afterFork()
	return int(r), syscall.Errno(e)
}

// vforkChild returns in the parent alone, and at once: the child has been at work in
// what lies below its frame.
//
//go:noinline
//go:nosplit
//go:norace
//go:nocheckptr
func vforkChild(call, a1, a2, a3 uintptr, child func(arg unsafe.Pointer), arg unsafe.Pointer) (r, errno uintptr) {
	if r, errno = vfork(call, a1, a2, a3); r != 0 || errno != 0 {
		return r, errno
	}
	child(arg)
	return 0, 0
}
