// SPDX-License-Identifier: Apache-2.0

// Package seccomp makes the filters that containers run under, as BPF programs that
// seccomp(2) takes.
//
// The default profile is Moby's (github.com/moby/profiles/seccomp), which Docker and
// Podman share. What it allows depends on the container's capabilities; for those that
// containers mostly have, programs are compiled ahead and linked in (go generate), since
// reading the profile takes longer than starting a container may. [Default] picks one,
// and compiles the rest at the time. A caller's own profile, in the same JSON, is
// compiled by [Compile].
//
// # The program
//
// It looks at the architecture first (the machine's and, on amd64 and arm64, the 32-bit
// one of the same kernel; any other is ENOSYS), then finds the system call's number by
// a binary search over ranges of numbers with the same answer, then compares
// arguments where the profile does. A number above all that the tables know is ENOSYS
// rather than the profile's EPERM: C libraries then fall back to older calls, as runc
// and crun have it. The kernel remembers the numbers whose answer never depends on
// arguments, so that most calls do not run the program at all (Linux 5.11).
//
// # Tables
//
// The numbers of system calls are those of github.com/elastic/go-seccomp-bpf/arch, which
// go generate writes into tables/; the package itself has maps of every architecture
// that would be made at each start of the program.
package seccomp

//go:generate go run ./generate
