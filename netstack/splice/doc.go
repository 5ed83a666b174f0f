// SPDX-License-Identifier: Apache-2.0

// Package splice is the kernel's path for the container's TCP: its own kernel
// terminates the connection, the host's kernel has the other one, and splice(2)
// moves the bytes between the two. No packet of such a flow passes through this
// process but its first SYN. That takes no privilege that a plain user does not
// have over a user namespace of their own.
//
// # Theory of operation
//
// The application's SYN leaves by the tap, like any packet. The network connects
// to its destination first, as it would for a flow that it carries itself, and if
// that fails, says so to the container. If it succeeds, the SYN, as it was, is
// written back into the tap:
//
//	application ── SYN ──> tap ──> us: policy, connect(2) on the host
//	                       tap <── the same SYN
//	  prerouting: a SYN from the tap: give it to the listener (TPROXY), mark it
//	  listener ── SYN-ACK ──> lo ──> application
//	application ── ACK, data ──> output: not a SYN, so mark it
//	  routing rule: what has the mark is local, so goes by lo ──> accepted socket
//
// So the kernel shakes hands with itself, and accept(2) returns a socket whose own
// address is what the application dialed, and whose peer is the application. Type
// Hairpin is all of this; package relay joins the accepted socket to the host's.
//
// Where the container connects to one destination again and again, netstack has a socket
// of an earlier connection meet the application instead (type meetings there): it comes
// from the destination's name, and all but the SYN travels as above.
//
// What is where, in the container's network namespace:
//
//	nftables   tables "ip slipway-TAP" and "ip6 slipway-TAP": chain "prerouting"
//	           for SYNs that we write; chain "output" for what the container would
//	           send by the tap; the set "stacked" of flows that are left alone there
//	routing    rule 1: fwmark 0x05100000 lookup 1296; table 1296: local default dev lo
//	sysctl     net.ipv4.conf.TAP.accept_local=1 and rp_filter=2;
//	           net.ipv4.tcp_fwmark_accept=1, of which see "Inbound connections"
//	sockets    two listeners, on 192.0.0.8 and 100::8, which nobody has: so the
//	           container cannot connect to them, and no port of its own is taken
//
// A connection costs no netlink message and leaves nothing behind in the rules, nor
// has conntrack any part in it. It is the stacked ones, which are few while this
// works, that have to be named (Exclude), inbound ones too. A SYN never matches the rule for output: it
// always comes to us, and the policy, first.
//
// # Flows that the container forwards
//
// A bridge in the container, such as Docker's, has containers of its own, whose
// packets come masqueraded. Their SYN is written back too, but without conntrack
// seeing it again (chain "raw"), since it would clash with the entry that was made
// when it went out. The listener's SYN-ACK is an answer by that entry: conntrack
// turns its destination into the inner container's, and a rule marks the entry.
// What then comes in from the bridge with that entry is marked, so local; and on
// its way in conntrack gives it the source that masquerading chose, which is the
// one that the accepted socket knows. These rules are made when the container
// forwards packets (net.ipv4.ip_forward), at the first flow that finds it so.
//
// # Trust
//
// The container may be root in its namespaces, and so can undo or redirect all of
// this. It can hurt itself only: a connection on the host exists because the
// policy allowed its destination, and what is accepted at the listener is joined
// to one only by the exact tuple that the policy has seen, once. Anything else gets
// a RST.
//
// # Ownership and life
//
// The sockets are made inside the container by whoever makes the tap (Inside), and
// are their maker's to close. The tables belong to our netlink socket
// (NFT_TABLE_F_OWNER, Linux 5.12): nobody else can change or flush them, and they
// go when it is closed, even if we are killed. Rule and route stay then, which
// match nothing without the mark; the next session takes them over.
//
// What a flow's two ends have sent, and one has not read yet, is the container's kernel's
// to deliver, without us. But without the rules there is no way for the reader's
// acknowledgments: what it has not read when the session ends is lost beyond its receive
// buffer, and it waits for the rest as if a cable were cut.
//
// A tuple stays in the set until the flow has ended: Include takes out many at once.
//
// # Inbound connections
//
// What comes in at a published port is connected to the container's service by a socket
// in the container, bound to the client's own address (IP_TRANSPARENT): a Factory makes
// such. What the service answers would leave by the tap. It is kept in the container by
// our mark, which the factory's SYN has and the service's socket takes from it
// (tcp_fwmark_accept of the kernel's ip-sysctl), so that it is routed by lo once and for
// all; where the container has changed that, by the rule for output, like the rest. So
// that what our listener accepts does not take the mark of its SYN, it has one of its own.
//
// The factory's socket holds its acknowledgment of the service's SYN-ACK back for what the
// client has sent (Greeted).
//
// Not done here: any TCP that the network terminates itself (DNS over TCP), and UDP.
// Urgent data arrives in line. What the container captures on its tap are only the SYNs
// of these flows; the rest is on lo.
package splice
