// SPDX-License-Identifier: Apache-2.0

// Package join starts a process in the namespaces of a container that runs.
//
// No thread of a Go process may join a user namespace, so it is done by two raw
// forks (package rawfork), without a helper program and without cgo:
//
//	caller                  first child                  second child
//	clone             ───►  setns(pidfd, namespaces)
//	                        clone(CLONE_PARENT,    ───►  die with the caller
//	                              CLONE_VFORK)           put descriptors in place
//	wait for the first ◄──  exit                   ◄───  execveat(binary)
//
// The pid namespace that setns(2) joins is that of children, hence the second one;
// CLONE_PARENT makes it the caller's child, which waits for it as for any other (by
// __WALL, as it sends no SIGCHLD). setns takes a pidfd, all namespaces are joined at
// once, and no id can have passed to another process meanwhile.
//
// From setns until it gives them up, the process holds every capability in the
// container's user namespace. It executes the binary that is given as an open file:
// nothing of the container is looked up on the way. Until then its memory and its
// descriptors are the caller's: it is untraceable (PR_SET_DUMPABLE), and since that
// memory belongs to the caller's user namespace, not even CAP_SYS_PTRACE in the
// container's is a way to them (CVE-2016-9962). What it executes has to give up what it
// should not have, as an init stage does, and from execve on belongs to the container's
// user namespace: who has CAP_SYS_PTRACE there can trace it, but for that has to see it. So
// what has more rights than the container is to be started without joining its pid
// namespace, and has to fork into that what is to be there, as sandbox.ModeExec does.
package join
