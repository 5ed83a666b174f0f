// SPDX-License-Identifier: Apache-2.0

// Package lan joins containers of one user to a private network of their own, in
// which they reach each other by address and by name, without root.
//
// # Theory of operation
//
// Each container of the network has a second tap, beside the one that leads to the
// outside. A process of its own, the switch, holds the taps of all members and hands
// frames from one to the other, as an Ethernet switch does:
//
//	container a ── eth1 ──┐                  ┌── eth1 ── container b
//	                      tap ── switch ── tap
//	supervisor a ── member's socket ──┘ └── member's socket ── supervisor b
//
// A frame is read once and written once, up to 64 KiB at a time whatever the MTU,
// since the taps have the kernel's offloads (package tap). Nothing else of the
// container is involved: neither the stack that carries its other traffic nor the
// splice, which look at the first tap only.
//
// # Joining and leaving
//
// A network is a directory. Who joins it takes its lock, and connects to the socket
// in it; where nobody answers it starts a switch, with the listening socket ready
// made. Then, over a socket that keeps the bounds of messages:
//
//	member                                    switch
//	hello: names, the station it was   ──►    picks hardware and IP addresses
//	                                   ◄──    welcome: the member's Station
//	makes the tap with these
//	attach, and the tap's descriptor   ──►    starts to carry its frames
//	                                   ◄──    members: all of them, now and at each change
//
// The member's socket is its life: when it is closed, by the supervisor's death too,
// the switch closes the tap and tells the others. A switch without members ends
// after Linger, under the lock, so that nobody joins one that is ending. A switch
// that was killed is replaced by the first member that notices; the taps are kept
// open by their members meanwhile, and each asks for the addresses that it had.
//
// # Trust
//
// The members are containers, and hostile to each other. The switch hands on only
// frames whose source is the member's own hardware address and one of its own IP
// addresses, ARP and Neighbor Discovery that speak of these, and no router
// advertisements or redirects (filter.go). What claims a checksum to be filled in
// must point to that of its own transport header. What it hands out besides is the
// list of names. Between the containers of a network nothing is filtered.
//
// The switch knows its members by their socket, which lies in a directory of the
// user, and takes none of another user (SO_PEERCRED). It holds no capability, starts
// nothing, and reads only frames and messages.
//
// # Names
//
// Lookup answers from the list that the switch has sent last: no message per query.
// Several members may have the same name, and all are told.
//
// # Limits
//
// MaxMembers containers; IPv4 and IPv6, no other protocols; frames that a member
// does not take in time are lost, as on any link. Subnets are 10.89.N.0/24, of which
// the first is taken that no other network of the user has, and a random /64 of
// fd00::/8 (RFC 4193).
package lan
