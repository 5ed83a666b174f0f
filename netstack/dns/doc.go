// SPDX-License-Identifier: Apache-2.0

// Package dns forwards the container's DNS queries to the host's resolvers.
//
// # Theory of operation
//
// A Forwarder has no cache and no opinion: a query goes to the host's resolvers
// as the container wrote it, and the answer comes back byte for byte, whatever
// its type, flags and options. A truncated answer stays truncated; the container
// then asks again over TCP by itself, and that query goes to the resolver over
// TCP too.
//
// The resolvers are those of the host's resolv.conf(5), in its order, or a fixed
// list. The file is looked at again on a query, at most once in StatInterval, and
// read again when it is another file or has changed. A file that has become
// unreadable or names no server leaves the servers as they were, since such
// states are what an editor or a network change passes through.
//
// One query, in Exchange or from Begin on:
//
//  1. Anything that is not a query with one question is answered with FORMERR, or
//     not at all where even its header cannot be trusted.
//  2. The servers are asked one after the other, each for up to Config.Timeout,
//     from a socket of its own: a fresh one for each attempt, connected, so that
//     its port is random (RFC 5452 §4.5) and a closed port is known at once.
//     Only an answer from that server with the query's id and question counts
//     (RFC 5452 §4.2); others are counted and passed over.
//  3. SERVFAIL, NOTIMP and REFUSED make it try the next server, as in glibc; if no
//     server has better, the last such answer is what the container gets.
//  4. Servers that did not answer in time are asked once more, until
//     TotalTimeout is over. Then the container gets a SERVFAIL made here.
//
// A server that failed goes to the end of the order for penalty, UDP and TCP
// apart, so that one dead server costs a query now and then and not each one.
//
// Exchange blocks its goroutine; nothing runs between queries. An Attempt, which
// Begin makes, is the same for an event loop: the loop watches the socket on which
// the first server was asked, and keeps the time. Nearly every query ends with that
// server's answer, and then has cost seven system calls and neither a goroutine nor
// a wakeup of the runtime's poller. Whatever may block, or comes seldom, is left to
// Attempt.Resume, in a goroutine: to read resolv.conf, to ask a further server, to
// look up a zone's interface.
//
//	Begin ─► FD readable ─► Receive ─► answer; Close
//	  │           │            │
//	  │ no        │ Timeout    │ the server failed,
//	  │ socket    ▼ is over    │ or another may have better
//	  │         Expire         │
//	  ▼           ▼            ▼
//	Resume, which blocks ─► answer, or nil
//
// A socket serves one attempt only. One that is connected already would save five of
// the seven calls, but its port is half of what an answer from off the path must
// guess (RFC 5452 §4.5): it is not to be there long enough to be found.
//
// Over Config.MaxInFlight queries at a time a query is dropped, which the container's
// resolver takes for a lost packet. ServeTCP serves one TCP connection of the
// container (RFC 7766) with the same Exchange.
//
// # Limits
//
// No cache, no search list applied (that is the container's resolver's work; see
// Search), no DNS over TLS or HTTPS, no options of resolv.conf(5), no mDNS or
// LLMNR. Zone transfers, which are many messages for one query, give the first
// message only.
package dns
