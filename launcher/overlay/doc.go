// SPDX-License-Identifier: Apache-2.0

// Package overlay finds out by which driver the layers of an image can become the root
// of a container on this machine, by trying it.
//
// # Why it is tried
//
// A mount of overlayfs that succeeds proves nothing: without "userxattr", or on a file
// system that cannot hold its marks, removing a directory of a lower layer fails later
// with EIO, in the middle of somebody's work. What a kernel can do cannot be told by
// its version either, as distributions have backports.
//
// # What is tried
//
// A stage (userns.Command) with the ids of the store and mounts of its own makes a few
// files in the store's tmp directory, mounts them, and
//
//	removes a directory that two layers have      native
//	the same with the upper layer on a tmpfs      native, what is written is in memory
//	reads a file of a data-only layer             other owners need no copy of content
//	the first by fuse-overlayfs                   if the kernel cannot
//
// and removes all of it again. That takes some ten milliseconds, so the answer is kept
// for this boot of the machine, for one file system and mapping of ids, in a file of
// the run directory.
//
// # Drivers
//
//	overlay         the kernel's own (Linux 5.11 or a backport)
//	fuse-overlayfs  the program of that name and /dev/fuse (package fuse): each access
//	                to a file goes through another process
//	copy            each container gets a copy of the image, which shares blocks where
//	                the file system can (FICLONE): what remains where both are missing
package overlay
