// SPDX-License-Identifier: Apache-2.0

// Package rawfork forks a Go process without executing a program.
//
// A process with threads, as every Go process is, may not join a user namespace
// (setns(2)); the child of a fork has one thread and may. But that child has what the
// fork caught of the Go runtime: no other thread, locks that nobody will give back,
// a heap that nobody collects. So what runs in it must not be ordinary Go: a
// function that does nothing but raw system calls and plain loads and stores, all
// of whose stack is there already. Package syscall does the same between fork and
// execve, and brackets it with the same two calls into the runtime, which block all
// signals on the way: no handler runs in the child.
//
//	parent                      child
//	block signals
//	clone(2)              ───►  the function: system calls on what lies ready
//	restore signals             exit_group(2) or execve(2)
//
// A Program is the rest of most such functions: a session, descriptors, execve(2).
//
// The memory of parent and child is apart, unless the parent has mapped some of it
// MAP_SHARED, which is how a child tells what it did.
package rawfork
