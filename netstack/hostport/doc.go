// SPDX-License-Identifier: Apache-2.0

// Package hostport leads ports of the container's loopback to the host's.
//
// # Theory of operation
//
// What a container sends to its own loopback never comes to the tap. So a Server has
// listening sockets there, which its caller has bound (type Listener), and connects to the
// host's loopback for each client that one accepts. A relay (package relay) joins the two:
//
//	client ──lo──> Listener ── relay ──> 127.0.0.1 or ::1 of the host
//
// A client has been accepted by the container's kernel before the host is asked. One that
// nobody there wants is told by a reset, as of a service that has just ended. A service
// may listen at one of the two loopbacks only, so the other one is asked, too.
//
// All of it runs on one loop (package loop), with no goroutine, buffer or pipe for a
// client that says nothing: as many as the bound allows cost two descriptors each. Beyond
// the bound clients wait to be accepted, until one ends.
package hostport
