// SPDX-License-Identifier: Apache-2.0

// Package attachtest gives tests a small network that a plain user can make. It
// is for tests only.
//
// # Theory of operation
//
// Main, called by TestMain, runs the test binary again in a user namespace that
// maps one plain user, and in a network namespace, the "host":
//
//	go test ── binary (stage 0): the plain user's agent outside
//	             └─ binary (stage 1): all capabilities in the new user namespace;
//	                  │   makes the peer, joins it by a veth pair, is place "host"
//	                  ├─ agent in a network namespace of its own: place "peer"
//	                  └─ binary (stage 2): runs the tests, as the plain user, in
//	                       │   "host", without capabilities
//	                       └─ agents in containers: unshare -Urn
//
// So the tests' own process stands where a helper stands on a real machine: an
// ordinary user on a host with addresses, routes and neighbours, which a test may
// change without harm to the machine.
//
// That user namespace has one user, and so cannot be divided among containers of several
// users. A Machine, made by the agent outside, has more of them.
//
// A Place is a process somewhere in there, the agent, that makes sockets and runs
// commands for the test. A socket belongs to the network namespace in which it
// was made, so the agent passes it over (SCM_RIGHTS of unix(7)) and the test uses
// it as its own. An agent ends when the test's process does, however that ends,
// since it reads from a socket whose other end that process holds.
package attachtest
