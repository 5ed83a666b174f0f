// SPDX-License-Identifier: Apache-2.0

// Package sandbox takes from a process what it does not need any more: privileges,
// most of the file system, and most system calls. It is for a program that reads
// hostile bytes and has everything open by then, as the helper of a container has
// once its session is set up. The container is the attacker, and what it could gain
// by taking this process over is what the package is to make small.
//
// # What is put in force
//
// Enter does it, in this order, for all threads and for good:
//
//   - An empty root, where the process may make mounts: a mount namespace whose root
//     has nothing but the directories that the Policy names, each at the path that
//     it had. What is not there cannot be opened, connected to, or looked at.
//   - no_new_privs, and no capability but those to keep.
//   - The process cannot be traced by others of its user, and leaves no core file
//     (PR_SET_DUMPABLE of prctl(2), RLIMIT_CORE).
//   - Landlock (landlock(7)), where the kernel has it: of the whole file system
//     only what the Policy names can be opened, and nothing but that. It needs no
//     right, so it is what confines the process of a plain user.
//   - A seccomp filter (seccomp(2)): a list of the system calls that a helper needs,
//     with their arguments where those matter (calls.go tells why for each). Others
//     fail, and those that only somebody breaks in for end the process.
//
// Each part stands without the others, and a Policy says whether to do without one
// or to fail where it cannot be had.
//
// # One process
//
// The parts act on the process as it is: its id, its memory and its descriptors
// stay, and it executes nothing. A mount namespace is a matter of each thread, of
// which Go has several, and threads that share their root cannot enter one
// (setns(2)). So one thread makes the namespace, and a hostname's namespace with it;
// a process forked from that thread stands in both; and all threads enter the two
// together by that process' descriptor, which the kernel lets them, since it then
// gives each a root of its own on the way (kernel/nsproxy.c, prepare_nsset; Linux
// 5.8). Then the forked process is gone, and so is the thread.
//
// # Files that are replaced
//
// resolv.conf is read again when it changes, and most programs change it by putting
// another file in its place. So it is not the file that is kept in reach but the
// directory that it is in, in the end: where /etc/resolv.conf is a link into
// /run/systemd/resolve, that directory, and of /etc only the link. A file that is a
// mount itself, as in containers, can have no other put in its place, and is kept
// alone.
package sandbox
