// SPDX-License-Identifier: Apache-2.0

// Package sockaddr converts between netip's addresses and the kernel's socket
// addresses, of either family.
//
// # Theory of operation
//
// The data path makes its system calls by itself (package netstack says why), and so
// needs struct sockaddr as the kernel has it. One struct sockaddr_in6 has room for both
// families; which one is in it, its first two bytes say (sockaddr(3type)). Put and Get
// allocate nothing: they write into, and read from, what their caller keeps, as a rule
// beside the other arguments of the call. Of is for calls that are seldom made, by
// package unix.
//
// An IPv4 client of a socket for both families has a mapped address (RFC 4291
// §2.5.5.2). Get unmaps it, since such addresses appear nowhere else here; Put does not
// map, for sockets of one family. Scopes of link-local addresses are left out: flows
// have none.
package sockaddr
