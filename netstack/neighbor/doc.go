// SPDX-License-Identifier: Apache-2.0

// Package neighbor makes slipway's addresses real on the container's link: it
// answers ARP (RFC 826) and Neighbor Discovery (RFC 4861), and advertises the
// router.
//
// # Theory of operation
//
// A Responder is immutable and its methods are pure: from the bytes of a request
// they make those of the answer, complete with checksum, and nothing else. The
// caller owns headers, frames and the timer of unsolicited advertisements.
//
// We answer for our own addresses only: gateway, resolver, those mapped to the
// host's loopback, and the router's link-local address. All else stays silent, as
// on a real link: a container that probes its own address before it takes it (RFC
// 5227, RFC 4862 §5.4) must hear nobody, and an address of the link where nobody
// lives must end in EHOSTUNREACH.
//
// What a request says about its sender is not kept. There is one other station on
// the link, and the caller knows its hardware address from its frames.
//
// The router advertisement offers the plan's network for SLAAC (A and L flags), a
// resolver and search domains (RFC 8106), and the MTU. The M flag is clear: SLAAC
// gives the address. The O flag is set where there is a resolver, for clients that
// ask DHCPv6 for it; the kernel ignores RDNSS.
//
// # Timers
//
// Unsolicited advertisements are due at random intervals between MinInterval and
// MaxInterval; the first InitialAdverts of them no more than InitialInterval apart
// (RFC 4861 §6.2.4). Solicited ones are not delayed: the delay of up to half a
// second is there to spare links with many routers.
//
// # Limits
//
// No redirects, no proxying, no multicast listener discovery: the caller gets all
// of the link's traffic anyway. Requests that break a rule of RFC 4861 §6.1.1 or
// §7.1.1 are ignored, the checksum included.
package neighbor
