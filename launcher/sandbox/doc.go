// SPDX-License-Identifier: Apache-2.0

// Package sandbox is what happens inside of a container's namespaces: the init stage,
// which makes the container and becomes its command. It is linked with little, since
// each start of a container waits for it, and starts a process only for --init, and in a
// container that runs.
//
// # The stage
//
// The stage is a process that was started in new namespaces with a socket at ControlFD
// (package launcher is the other end). What it does is written in an [Order], and is
// done in this sequence:
//
//	receive the order, open everything of the host that it names   as the caller
//	set up lo
//	wait until the ids are mapped, become root                     as the namespace's root
//	make the root: a tmpfs, and on it layers, a directory, or the host's own root
//	(of layers that fuse-overlayfs stacks, the supervisor gets the connection: package fuse)
//	mount /proc; set sysctls; mount /dev, fill it; mount the rest, and the volumes
//	put files into /etc, make paths read-only, mask paths
//	pivot_root; set the hostname
//	look up the user, the working directory and the command in the new root
//	wait until the network is up
//	make the terminal; limits, capabilities, ids, no_new_privs, seccomp
//	execute the command, in place of the stage or (Init) as its child
//
// The child of --init waits until pid 1 has given up what the command does not have: none of
// the container runs before.
//
// In a container that runs (ModeExec), the stage has joined all namespaces but that of
// process ids. There it would be seen, and could be traced by who was given CAP_SYS_PTRACE,
// while it has every capability of the container's user namespace. It
//
//	receives the order
//	looks up the user, the working directory and the command
//	makes the terminal
//	on a thread for that alone: has its children be in the pid namespace (setns(2));
//	capabilities, ids, no_new_privs; where the child could be traced, the filter
//	forks there; the child sets limits, installs the filter and executes the command, and
//	its parent is who started the stage
//	tells that one the child's process id, and ends
//
// For want of that namespace it has no /proc/self, where the container's /proc is its own.
//
// A failure ends the stage with one line and an exit code ([Failure]). The control
// socket is closed by execve(2): its end without a failure means that the command
// runs, where the stage becomes it.
//
// # Whom it trusts
//
// The order is the caller's. What lies in the root directory and in volumes is not:
// an image may have any link, file or device anywhere. So a place is opened by openat2(2)
// below its root, links are refused where the kernel's file systems go and stay inside
// where volumes go, mounts are attached to the descriptor that was checked (move_mount(2)),
// and no path is looked up twice with a decision between. docs/sandbox.md has the list
// of other runtimes' vulnerabilities that these rules come from.
//
// # The host's own root
//
// An unprivileged mount namespace may not take apart the mounts it was given: overlayfs
// refuses a lower directory with a locked mount anywhere below it (has_locked_children
// in fs/namespace.c), and below "/" there is always /proc. So that root is a tmpfs in
// which each directory of "/" has an overlay of its own; a directory with a mount below
// it is split again in the same way (layers.go).
package sandbox
