// SPDX-License-Identifier: Apache-2.0

// Package tarball carries files out of and into a container, as a tar archive.
//
// One side of a copy runs in the container, with its rights, and the other on the
// host, with the user's; a pipe is between them. Each trusts neither what comes
// through the pipe nor, in the container, what lies there:
//
//	Pack      walks below a directory without following a symbolic link, and reads
//	          regular files only; sockets and devices are left out
//	Unpack    writes below a directory: names that lead out of it, or through a
//	          symbolic link, are refused, as are devices and pipes; what is there
//	          is replaced, but for directories
//
// Both go through os.Root, so that nobody who changes the tree meanwhile leads them
// out of it. Owners are not carried: what is unpacked belongs to who unpacks it.
// Modes and times are; set-user-ID and set-group-ID bits only where Options say so.
package tarball
