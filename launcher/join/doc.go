// SPDX-License-Identifier: Apache-2.0

// Package join starts a process in the namespaces of a container that runs.
//
// No thread of a Go process may join a user namespace, so it is done by two raw
// forks (package rawfork), without a helper program and without cgo:
//
//	caller                  first child                  second child
//	clone             ───►  setns(pidfd, namespaces)
//	                        clone(CLONE_PARENT)    ───►  die with the caller
//	wait for the first ◄──  exit                         put descriptors in place
//	wait for execve    ◄───────────────────────────────  execveat(binary)
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
// should not have, as an init stage does. From execve until that says otherwise, it can be
// traced by who has CAP_SYS_PTRACE in the container, which no default set has.
package join
