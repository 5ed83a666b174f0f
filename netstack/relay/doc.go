// SPDX-License-Identifier: Apache-2.0

// Package relay joins two stream sockets: what one end's peer sends, the other end's
// peer gets, and so with its end. The bytes stay in the kernel.
//
// # Theory of operation
//
// A Relay has two ways, one from each end to the other. A way reads what there is:
// a short message into a buffer that all relays share, from which it is written
// on; more than that by splice(2) into a pipe, which takes the pages, not the
// bytes, and from there into the other socket. Which of the two it uses, it learns
// from the last read.
//
// What the other end does not take stays where it is, in a pipe or, of a short
// message, in a copy, until that end can be written to. Until then nothing more is
// read, so that TCP slows the sender down: that is all the flow control there is.
// An end that sends no more is passed on as such (shutdown(2)); an error of either
// socket breaks the relay, and its owner resets both.
//
// A relay does no waiting. Its owner registers both sockets with epoll,
// edge-triggered, tells it of events (Note) and lets it work (Move), a bounded
// number of reads at a time, so that many relays share one goroutine. It has no
// timers; whoever wants a peer that vanished to be noticed sets SO_KEEPALIVE.
//
// Pipes are lent from a Pool, which has a bounded number: idle relays have none,
// and where none is left, bytes are copied. TCP's urgent data is passed on in line
// if the sockets have SO_OOBINLINE, which they should.
//
// Either socket may be a Unix one (MarkUnix), which takes the same calls. There a
// peer that closes is seen by the next write, before what it had sent is read: such
// a way is cut, and the relay breaks when the other one has come to its end.
package relay
