// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package rawfork

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// sharedMemory are the flags by which a child has its parent's memory: none without a
// register to keep its way back in.
const sharedMemory = 0

// vfork makes a system call that returns in a child as well.
//
//go:nosplit
//go:norace
//go:nocheckptr
func vfork(call, a1, a2, a3 uintptr) (r, errno uintptr) {
	if call == unix.SYS_CLONE && runtime.GOARCH == "s390x" { // there the first two arguments are swapped (clone(2))
		a1, a2 = a2, a1
	}
	r, _, e := syscall.RawSyscall6(call, a1, a2, a3, 0, 0, 0)
	if e != 0 {
		return 0, uintptr(e)
	}
	return r, 0
}
