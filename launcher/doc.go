// SPDX-License-Identifier: Apache-2.0

// Package launcher runs a command in a rootless container whose root is the
// host's own, under a layer that is thrown away.
//
// # Processes
//
// Three processes take part. The supervisor is the caller of [Container.Run]; it
// holds the network stack, the terminal and the signals. It starts the init
// stage, which is the same binary again (argv[0] is [InitArg], see [IsInit]) in
// new user, mount, pid, ipc, uts, cgroup and, but for [NetHost], network
// namespaces, and is pid 1 there. The init stage starts the command as pid 2.
//
//	supervisor                             init stage (pid 1)
//	start in namespaces, map 0 to the uid
//	bundle (spec, files)             ───►  obey it: root, mounts, devices, masks
//	Session(pid): the network, meanwhile   pivot, hostname, sysctls
//	go                               ───►  terminal, capabilities, command
//	raw mode, window size            ◄───  terminal (SCM_RIGHTS)
//	signals                          ───►  kill(2) the command
//	                                 ◄───  failure (code, text), or exit status
//
// The command starts only after Session has returned, so its first packet finds
// a network. When the supervisor dies, so does pid 1 (PR_SET_PDEATHSIG and the
// end of the control socket), and with pid 1 the kernel kills the rest.
//
// # The root
//
// An unprivileged mount namespace may not take apart the mounts it was given:
// overlayfs refuses a lower directory with a locked mount anywhere below it
// (has_locked_children in fs/namespace.c), and below "/" there is always /proc.
// So the root is a tmpfs in which each directory of "/" has an overlay of its
// own; a directory with a mount below it is split again in the same way
// (layers.go). Only the caller's own files and the top of each overlay can be
// written, since every other owner is unmapped in the user namespace. Sockets
// in the host's directories cannot be connected to through an overlay.
// Everything written lies on that tmpfs, in the container's mount namespace, and
// vanishes with it. The container's /run and /dev are its own and empty; host
// directories that the caller cannot read are there and empty.
//
// # What the command holds
//
// The capabilities of Podman's default set in the bounding, permitted and
// effective sets, none inheritable or ambient; no_new_privs; a session and a
// session keyring of its own; its three standard streams and no other
// descriptor. A stream that is a terminal is replaced by one of the container's
// own devpts, so that it cannot type into the caller's (TIOCSTI). There is no
// seccomp filter and no resource limit. The init stage itself cannot be traced,
// and if the caller could write its binary it runs from a read-only mount of it.
//
// # Seams
//
// The init stage obeys an OCI runtime-spec ([Spec]) and a small envelope for what
// that cannot say (bundle). Mapping a range of subordinate ids belongs between
// start and the sending of the bundle; a root made from an image is another
// mount on "/" of the spec.
package launcher
