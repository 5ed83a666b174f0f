// SPDX-License-Identifier: Apache-2.0

// Package stagefile has the init stage, the binary of launcher/initstage, as a file that
// nobody can write: a memory file (memfd_create(2)), sealed, or one of real root's.
//
// The binary is linked in where slipway is built by make, under the tag slipway_stage,
// for which make has built it before. It is not in the repository, so that a plain
// `go build` or `go install` has none: the launcher then starts its own binary
// instead, sealed by a read-only mount where the caller could write it. Both do the
// same; the small one starts in half the time, and needs no second execve(2) to be
// sealed (docs/sandbox.md has the figures).
//
// To make the file takes two milliseconds of a start, most of them for the memory. So
// `make install` puts the binary beside slipway, too (Name), and it is executed from there
// if real root owns it, the caller may not write it, and it is the one that is linked in.
//
// It must be sealed since a process of the container may be made to execute
// /proc/self/exe and then write to it, which was CVE-2019-5736.
package stagefile
