// SPDX-License-Identifier: Apache-2.0

// Package launcher runs a command in a rootless container. Its root is the host's own
// under a layer that is thrown away, a stack of layers (an image's), or a directory.
//
// # Processes
//
// Two processes take part. The supervisor is the caller of [Container.Run]; it holds the
// network stack, the terminal and the signals. It starts the init stage (package
// sandbox; argv[0] says so, see [IsInit]) in new user, mount, pid, ipc, uts, cgroup and,
// but for [NetHost], network namespaces, which makes the container and becomes its
// command, or, with Config.Init, starts that and stays as pid 1.
//
//	supervisor                             init stage (pid 1)
//	start in namespaces (Begin)    ───►    Go runtime starts
//	newuidmap ‖ newgidmap
//	‖ the caller finds out the rest
//	order                          ───►    decode, open the layers and volumes
//	Session(pid)                           lo
//	mapped                         ───►    become root: root, mounts, devices, masks
//	                                       pivot, hostname, user, command
//	go                             ───►    terminal, capabilities, seccomp, execve
//	raw mode, window size          ◄───    terminal (SCM_RIGHTS)
//	signals                        ───►    kill(2) the command
//	                               ◄───    failure (code, text), or the end of the socket
//
// The command starts only after Session has returned, so its first packet finds
// a network. When the supervisor dies, so does pid 1 (PR_SET_PDEATHSIG), and with pid 1
// the kernel kills the rest.
//
// # Ids
//
// Config.IDs maps the container's ids to ranges of subordinate ids (package userns);
// without a mapping 0 is the caller and nobody else exists. What the container's root
// does to the layers it does as the mapping says, but what is opened on the host on the
// caller's behalf (layers, volumes, devices) is opened before, with the caller's rights.
//
// # What the command holds
//
// The capabilities of Podman's default set in the bounding, permitted and
// effective sets, none inheritable or ambient (a user other than root holds none but
// those added by name); no_new_privs; Moby's seccomp filter (package seccomp); a session
// and a session keyring of its own; its three standard streams and no other
// descriptor. A stream that is a terminal is replaced by one of the container's
// own devpts, so that it cannot type into the caller's (TIOCSTI). The init stage cannot
// be traced, and runs from a file of real root's or a sealed one in memory (package
// stagefile) or, where none is linked in and the caller could write its binary, from a
// read-only mount of it.
//
// # A supervisor that confines itself
//
// It can become nobody else any more, and start nothing. So what needs other ids at the
// end, to remove what the container has written, is done by a [Sweeper] that it has
// started before.
//
// # Limits
//
// With Config.Limits the container starts in a control group of its own, below one that
// is delegated to the supervisor: its own, if nobody else is in that, or a scope that it
// asks systemd for (package scope), to which it moves itself. The supervisor steps aside
// into a group beside the container's, since a group with limited children has no
// process. [Exec] joins the container's group. At the end that is removed, and the scope
// goes with the supervisor.
//
// # The model between
//
// What a container consists of is an OCI runtime-spec ([Spec]). What that cannot say, a
// user's name that only the container's own passwd(5) knows, for one, stands beside it in
// a plan; both together are the order that the init stage obeys. With Config.Runtime the
// stage makes ids, network and root alone, and executes an OCI runtime on a bundle of
// the same spec (bundle.go).
//
// # Threads
//
// A container dies with the thread that started it, so one goroutine is locked to that
// thread and waits for the end. All others wait in the runtime's poller, never in a
// system call: what Go's scheduler does meanwhile was a third of a start's time.
package launcher
