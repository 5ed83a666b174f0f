// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package rawfork

import "golang.org/x/sys/unix"

// sharedMemory are the flags by which a child has its parent's memory.
const sharedMemory = unix.CLONE_VM

// vfork makes a system call that returns in a child as well, on the same stack. What it
// returns to is kept in a register: the child overwrites it on the stack.
//
//go:noescape
func vfork(call, a1, a2, a3 uintptr) (r, errno uintptr)
