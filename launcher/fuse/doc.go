// SPDX-License-Identifier: Apache-2.0

// Package fuse runs fuse-overlayfs, which stacks the layers of a container's root where
// the kernel's own overlayfs cannot.
//
// # Who does what
//
// The container's init stage opens /dev/fuse and mounts the root; only members of its
// user namespace may look into it then. It hands the connection to the supervisor, which
// starts fuse-overlayfs as a [Server]: beside the container, in a user namespace of its
// own that has the same ids. There the container's processes neither see nor can trace
// the process, though it has their ids, and it has no mounts and no network of theirs.
//
//	init stage                    supervisor                    server
//	open /dev/fuse, mount
//	  ─ connection (FrameFuse) ─►  Start  ─ connection, names ─►  open the layers
//	look at the root … waits                                      execute fuse-overlayfs
//	  ◄──────────────── the kernel: FUSE_INIT, and all that follows ────────────────
//
// # How it ends
//
// The kernel ends the connection with the last mount of it, which the container's mount
// namespace has: fuse-overlayfs writes what is left and ends by itself. One that does not
// is killed after endGrace. It is killed as well with the supervisor (PR_SET_PDEATHSIG);
// the container is then, too. If it ends before the container, every access to the root
// fails (ENOTCONN), and the supervisor ends the container.
//
// # What is in the layers
//
// fuse-overlayfs reads the whiteouts and opaque directories that the store has
// (unpack): character devices 0:0, and the attribute user.overlay.opaque. What it writes
// to the upper layer is for itself alone: beside the attribute it makes files
// named .wh..wh..opq, which the kernel's overlayfs would show. So a container stays with
// the driver that it began with.
package fuse
