// SPDX-License-Identifier: Apache-2.0

// Package slirpapi takes requests for published ports as slirp4netns does at its
// --api-socket (slirp4netns(1), "API SOCKET"), and answers them as it does.
//
// # Theory of operation
//
// A client connects to a UNIX socket, writes one request as JSON, reads one reply and
// is done. It may close its half of the connection behind the request, or not: a
// request ends where its JSON does.
//
//	{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":8080,"guest_port":80}}
//	{"return":{"id":1}}
//
// Each client has a goroutine, and there are few of them at a time; one that is silent
// or does not read loses its connection after some seconds. None holds up traffic,
// which knows nothing of clients.
//
// What slirp4netns answers differs from what its manual says: the reply to
// list_hostfwd has no "return". Ours has both. Beyond slirp4netns, addresses may be
// IPv6, protocols may say which family they mean, host_port 0 lets the kernel choose
// (the reply says which), ports must be ports, and an error tells its cause.
package slirpapi
