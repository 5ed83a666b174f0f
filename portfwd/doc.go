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
//	"auto,!22" ──── ParseAuto ──> Auto ── Follower ──────┘
//	                            what listens in the container ── Source ──┘
//
// This package makes no connection and moves no byte: it knows the stack by the
// interface Stack alone.
//
// # A port's life
//
//	wanted      its rule is checked, also against the plan and all other ports of
//	            the Table, before any system call is made
//	bound       all sockets of one Add are bound before the first listens, so that
//	            no client gets in that would be thrown out again. Ports that the
//	            kernel chooses come after those that are named
//	listening   TCP only. Until here an error closes all of them
//	published   the Stack has the socket, the Table a Port, with an ID that none
//	            will have again
//	withdrawn   the Stack closes the socket; connections go on unless they are cut
//
// Changes happen one after the other. Who waits for his turn, or for the Stack to
// close sockets, gives up when his context is done. Listing the ports waits for
// nobody. What one change costs does not grow with the number of ports: to add and
// to remove one takes 35 µs with 2000 published, and to add those 25 ms.
//
// # Addresses
//
// A rule without an address is for both families: one IPv6 socket that takes IPv4 as
// well, or one of IPv4 where the host has no IPv6. 0.0.0.0 and [::] mean one family,
// so both can have the same port. A rule for an address of a family that the
// container does not have is served too; the container sees the gateway as client.
//
// Rules collide where a host could not have both: same protocol and port, addresses
// of which one covers the other, and not two different interfaces. TCP sockets have
// SO_REUSEADDR, since connections of a former life would keep the port for a minute;
// it does not let two listen.
//
// # Errors
//
// They tell what to do: the sysctl or setcap for a low port, the limit for too few
// descriptors, and who has a port that is in use. That is asked of the kernel by
// sock_diag(7), which names the socket's inode and user, and of /proc/PID/fd, which
// names the process if it is ours. It takes some ms, and only where Add has failed.
// Where the process may not look, as in its sandbox, the error says less, and HiddenSocket
// has what a client of the API can find the process by.
//
// # Following
//
// A Follower publishes at the host what listens in the container, at the same port,
// and ends that with the service. It goes by what can be reached: sockets at every
// address, or at the container's own. A service of one family serves clients of both.
// Left alone are
//
//   - what listens at loopback only, which somebody meant to be private, unless the
//     Auto asks for it;
//   - what is bound to an interface, such as a DHCP client;
//   - what is at addresses that lead nowhere, such as those of a bridge in the
//     container and of the spliced path's own listeners;
//   - UDP sockets that are connected, and those at ephemeral ports, from which
//     programs ask DNS servers: to publish these would let anybody answer;
//   - ports that the Auto excludes, that a user has published, to wherever, or has
//     removed, until the service ends.
//
// A user's rule goes before one that is followed, and takes its port. A port that
// cannot be had is told once, and tried again after 10 s, then less often.
//
// The kernel has no event for a socket that begins to listen, so the Follower looks
// twice a second. A look dumps four lists by sock_diag and takes 90 µs, 160 with a
// hundred sockets, 1.3 ms with 2000; where it takes longer it is done less often, so
// that it never has more than a twentieth of a processor. The kernel does have events
// for sockets that are destroyed (SKNLGRP_INET_TCP_DESTROY), but they come for each
// connection too: with somebody waiting for them, a connection over loopback took 170
// µs rather than 138. That is too much for knowing half a second earlier that a
// service has ended: its clients are reset at once anyway.
//
// # Trust
//
// Rules come from users, by flags or an API; all of them are checked, be they parsed
// or made by hand. The container decides what is followed. It may open and close as
// it likes: how many ports it gets is bounded (1024), how often the log tells of
// failures, and how long a look may take. It chooses the ports, though, and may be
// there before a service of the host that starts later: exclude what must stay free,
// or name what may be followed. Its netlink messages do not reach a Diag, whose socket
// is connected to the kernel.
//
// # Limits
//
// A Table has 16384 ports at most, if not told otherwise. Not published are SCTP, and
// one of several ports, whichever is free ("8000-8010:80" of Docker). A Stack that
// does not close a socket in time lets the next rule for the port fail.
package portfwd
