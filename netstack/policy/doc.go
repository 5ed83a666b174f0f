// SPDX-License-Identifier: Apache-2.0

// Package policy decides, for each new flow or datagram that leaves the
// container, whether it may be carried, and to which address of the host.
//
// # Theory of operation
//
// A Policy is an immutable value made once from a Config. Decide looks at the
// protocol and the destination only, keeps no state, never blocks and does not
// allocate, so that it can stand on the packet path, and it may be called from
// any goroutine. The first line of this list that knows the destination decides:
//
//  1. What can never be a destination: an address that is not one, the loopback
//     networks (they would reach the host's own), IPv4-mapped and
//     IPv4-compatible IPv6 addresses (a dial of ::ffff:127.0.0.1 reaches IPv4
//     loopback), 0.0.0.0/8 and :: (Linux connects them to loopback), multicast,
//     240.0.0.0/4 with the limited broadcast, the plan's directed broadcast, a
//     family that the plan has switched off, and port 0. No rule opens these.
//  2. A TCP port that leads to a Unix socket of the host (type SocketAt): whoever
//     named exactly this port has permitted it.
//  3. The user's rules, in order, where a rule denies.
//  4. Addresses mapped to the host's loopback (type LoopbackAt), whole or by port:
//     dialed as 127.0.0.1 or ::1. All other ports of an address that something of
//     the host is at are closed.
//  5. The plan's own networks. They exist only on the container's side, so that
//     no rule can open them: the gateway (nothing is mapped to it), the
//     resolver (whose port 53 the caller has taken before asking), and all other
//     addresses, where nobody lives.
//  6. The user's rules, where a rule allows.
//  7. Link-local networks and the metadata services of clouds, which hand out
//     the machine's credentials: denied unless a rule allowed them.
//  8. All else is allowed.
//
// Rules are in one list and the first that matches wins; steps 3, 4 and 6 mean
// only that an allow cannot turn a plan address into one of the host's network,
// while a deny also closes a mapped address.
//
// # Limits
//
// Addresses are judged as the container wrote them. What a translator in the
// host's network makes of an address (NAT64, 6to4) is unknown here; only the
// link-local network inside 64:ff9b::/96 is known and denied. The host's own
// addresses on its networks are ordinary destinations: what the host offers to
// its neighbours it offers to its containers too. Rules name no domains.
package policy
