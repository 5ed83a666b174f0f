// SPDX-License-Identifier: Apache-2.0

// Package portfwd publishes ports: what comes in at a port of the host goes to one
// of the container's.
//
// # Theory of operation
//
// A Rule says what is wanted, as a user writes it: one port or a range, at one
// address of the host, at one interface or everywhere. A Table makes sockets of
// rules, all or none of them, and hands those to the Stack, which accepts what comes
// in and carries it. Ports come and go while traffic flows; who asks for them waits
// for no traffic, and no traffic waits for them.
//
//	"8080:80/tcp" ── ParseRule ──> Rule ── Table.Add ──> Listener ──> Stack
//
// This package makes no connection and moves no byte: it knows the stack by the
// interface Stack alone.
package portfwd
