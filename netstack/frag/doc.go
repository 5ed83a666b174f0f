// SPDX-License-Identifier: Apache-2.0

// Package frag puts fragmented IP datagrams together again, IPv4 and IPv6 alike.
//
// # Theory of operation
//
// The caller has parsed the IP header and, for IPv6, the fragment header. It
// hands each fragment's payload to Add, which copies it to its place and returns
// the whole payload with the fragment that completes it. Headers are the
// caller's: it keeps or rebuilds what it needs of them.
//
// A Reassembler has a fixed number of slots, each good for the largest datagram
// there is, so that its memory has a hard bound however a hostile container cuts
// its datagrams: MaxDatagrams slots make MaxMemory. A slot is made when it is
// first needed, used again for later datagrams, and given back to the garbage
// collector by Expire when no datagram is under way. A bit for each unit of eight
// bytes says what has come.
//
// A datagram under way ends in one of these states:
//
//   - whole: every byte has come. Its slot is free again.
//   - poisoned: two fragments disagreed. The slot stays taken, so that the
//     fragments still to come are discarded too (RFC 8200 §4.5), until it
//     expires or is evicted.
//   - expired: Timeout has passed since its first fragment.
//   - evicted: all slots were taken and it was the oldest.
//
// # Overlaps
//
// RFC 5722, now in RFC 8200 §4.5, demands for IPv6 that a datagram with
// overlapping fragments be dropped whole. We do the same for IPv4, where RFC 791
// would let a later fragment overwrite an earlier one: no sender makes such
// fragments, and what a policy or a peer sees must not depend on whose copy wins
// (RFC 1858, RFC 3128). An exact duplicate, with the same bounds and bytes, is
// not an overlap; the network may repeat packets.
//
// # Limits
//
// No ICMP time-exceeded is made for what expires. The link is a tap without
// reordering, and the caller has no host to tell about it but the container.
package frag
