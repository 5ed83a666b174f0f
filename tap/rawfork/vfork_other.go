// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package rawfork

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vfork makes a system call that returns in a child as well. Without a register to keep
// its way back in, the child gets memory of its own.
//
//go:nosplit
//go:norace
//go:nocheckptr
func vfork(call, a1, a2, a3 uintptr) (r, errno uintptr) {
	if call == unix.SYS_CLONE3 {
		(*CloneArgs)(unsafe.Pointer(a1)).Flags &^= unix.CLONE_VM
	} else {
		a1 &^= unix.CLONE_VM
		if runtime.GOARCH == "s390x" { // there the first two arguments are swapped (clone(2))
			a1, a2 = a2, a1
		}
	}
	r, _, e := syscall.RawSyscall6(call, a1, a2, a3, 0, 0, 0)
	if e != 0 {
		return 0, uintptr(e)
	}
	return r, 0
}
