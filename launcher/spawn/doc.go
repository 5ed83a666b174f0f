// SPDX-License-Identifier: Apache-2.0

// Package spawn starts a program in new namespaces, among them a user namespace, without
// copying the caller's memory.
//
// syscall.StartProcess does that for all kinds but user namespaces: the ids of those are
// written by the parent, it says, which a parent that waits for execve(2) cannot do. Here
// the child writes them itself where they are the caller's own, and others, which a
// set-user-ID program writes, are mapped after execve(2).
//
//	parent                        child
//	clone(2), and waits    ───►   map its ids (Config.Own)
//	                              keep its capabilities: the ambient set
//	                              a session, descriptors, the parent's death
//	goes on                ◄───   execve(2), or tells why not, and ends
//
// The child is a function of raw system calls (package rawfork). It holds nothing of the
// caller's but what Config says.
package spawn
