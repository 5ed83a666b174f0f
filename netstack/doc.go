// SPDX-License-Identifier: Apache-2.0

// Package netstack carries the traffic of one container between its tap and
// ordinary sockets of the host.
//
// # Theory of operation
//
// One goroutine, the loop (package loop), reads frames from the tap and watches
// all host sockets. It sorts each frame:
//
//	ARP, NDP, RA     answered on the link                 package neighbor
//	DHCPv4, DHCPv6   answered on the link                 package dhcp
//	DNS at .3        forwarded to the host's resolvers    package dns
//	ping             unprivileged ICMP socket             ping.go
//	UDP              one socket per container address     udp.go
//	    published    one flow per client of the port      inboundudp.go
//	TCP              one socket per connection            tcp.go
//	    published    accepted on the host                 inboundtcp.go, inboundflow.go
//	    spliced      by the container's kernel            kernelpath.go, packages splice, relay
//	    stacked      by gVisor                            pump.go
//	fragments        put together first                   package frag
//
// Before anything is dialed the policy (package policy) is asked; what it refuses
// is answered with the ICMP error or RST that says so, and counted by reason.
//
// The tap carries super-frames of up to 64 KiB with partial checksums, whatever
// its MTU (package tap, VNetHdr): a system call moves as much at MTU 1500 as at
// 65520. gVisor's segmentation offload, and the UDP_SEGMENT and UDP_GRO of the
// host's sockets, use the same.
//
// # TCP
//
// A SYN is not answered until the host's connection exists:
//
//	SYN from the tap → policy → non-blocking connect(2) on the host
//	    refused        → RST          the container's connect fails as the host's
//	    unreachable    → ICMP error   did, with the same errno, and at once
//	    timed out      → silence
//	    connected      → the SYN goes back into the tap, and the container's own
//	                     kernel answers it (spliced), or
//	                     to gVisor, which answers it (stacked)
//
// Where the policy says so, the host's end is a Unix socket instead; hostsocket.go
// tells what is different then.
//
// The spliced path (type kernelPath) is used while it works: a connection of our
// own tries it at the start, and again after packets that should not come here,
// or SYNs that nothing came of, say that the container has changed its rules. Then
// the rules are made again, and new flows are stacked until the next try comes
// through. Stacked besides are what is sent while frames are captured, what would
// take the last descriptors, and a SYN that comes a second time because nothing
// came of the first.
//
// # The stacked path
//
// gVisor runs promiscuous, so that every destination is its own, and with
// spoofing, so that it answers as any. It terminates the container's connection;
// its receive queue is handed to writev(2) where it lies, and host bytes are read
// straight into its buffers: one copy each way besides the kernel's. A FIN is
// passed on as a FIN, so that half-closed connections work, and a RST as a RST.
//
// A packet goes to gVisor's transport layer at once (Network.give): what its
// network layer checks is checked already. Acknowledgments without data are held
// for a moment, since what follows them carries them too (type ackHolder).
// Keep-alives are turned on only for flows that live for a tick, and the goroutine
// that gVisor needs for each handshake is one that has done it before.
//
// gVisor names an endpoint by what the container dialed (LocalAddress) and the
// container (RemoteAddress); type tuple is the only place where that is turned
// round.
//
// The states of a TCP flow are drawn at type tcpState. A closed flow stays in the
// table until gVisor's endpoint has said goodbye, so that a SYN which reuses the
// port can find and end it.
//
// # Meetings
//
// What the container connects to again and again is met half way by a socket that had an
// earlier connection there (type meetings). For up to two seconds after the last of them
// it has the destination's address and port in the container, as the container's end of
// each spliced flow has while it lasts; a server of the container's own at the same port
// needs SO_REUSEADDR, as nearly all set it, to listen at all addresses meanwhile.
//
// # Published TCP ports
//
// Here it is the host's connection that is there first: the kernel has shaken hands with
// the client before accept(2). The container is connected to from the client's own
// address and port, or the gateway's where that cannot be (inboundname.go):
//
//	accept ── spliced: a socket in the container's namespace (splice.Factory) ──> relay
//	      └── stacked: an endpoint of gVisor's, whose tuple is excluded first ──> pump
//	    refused: the container's other family, where the port may lead there; else a RST
//
// It is stacked where the spliced path is not open, where the container forwards packets
// and so may translate the port, while frames are captured, and when answers come by the
// tap that should have stayed in the container. Flows that came by ports may have three
// quarters of what there is of flows, descriptors and connects, so that clients cannot
// shut the container in.
//
// # UDP and ping
//
// A container's address and port are mapped to one socket of the host, whatever
// the destination (RFC 4787: endpoint-independent mapping and filtering). The
// mapping lasts as long as RFC 4787 recommends; there are at most MaxFlows, and
// the least recently used makes room. Hop limits are carried in both directions,
// and the errors that the host's kernel learns of (IP_RECVERR) are passed on as
// the ICMP messages they were, so that traceroute shows the hops. If the
// container says that a port is unreachable, the socket is closed, and the host's
// kernel says the same to the sender.
//
// # Published UDP ports
//
// A datagram that comes in at a published socket is written to the tap as from its
// client's own address and port. What the container sends from the published port to
// one of those leaves by the same socket, from the address that the client sent to; the
// policy has no part in it, and nobody who has not sent first is reached. A client whose
// address means something else in the container (loopback, the container's own network,
// the other family) appears as the gateway, at its own port if that is free. Link-local
// sources, and those that cannot be answered, are dropped.
//
// A client costs no descriptor. Those that the container has not answered have a share
// of MaxFlows that is theirs alone, so that forged ones drive out only each other.
// Withdrawing the port ends its flows: there is no connection that could outlive it.
//
// Errors go both ways. What the host's kernel says of an answer is passed on to the
// container. When the container says that nobody listens at its port, the socket does
// not hear for a second or two (type deafness), and the host's kernel says the same of
// what comes in. So the first datagram is lost without a word, and so is one every other
// second while nobody listens; a port that answered somebody in the last seconds, or is
// bound to one interface, is silent always.
//
// A client at whose end of the container's nobody listens is tried at the other family's, as
// of TCP, where the port may lead there. What it has sent first is sent there again, from a
// copy (inboundudpother.go), and the port's new clients follow.
//
// A service at the container's loopback gets no frames from the tap. Type Loopback has
// sockets in the container that speak with it for all clients; type inlet gives each of
// them a source address: out of 127.0.0.0/8 at 127.0.0.1, and one that is nobody's at ::1,
// whose answers come by the tap. An error of the host's about an answer does not get there.
//
// # Goroutines and ownership
//
// The loop owns every flow. gVisor's goroutines touch a flow in two places: they
// put it on the table's ready list (tcpTable.notify), and they wait for the
// handshake (tcpTable.forwarded) before they post the endpoint to the loop. DNS
// queries wait on the loop for the first server's answer (type dnsTable); those
// that go on to another, or came over TCP, have a goroutine each. Packet buffers
// are gVisor's, reference counted: deliver gives up the receive buffers,
// WritePacket keeps a packet only with a reference of its own (type ackHolder).
//
// # Limits
//
// Flows per kind, connects under way, and those to one destination, reassembly,
// DNS queries and ICMP identifiers are all bounded by named constants; above a
// bound, new traffic is dropped or the oldest idle flow ends, and a counter says
// so. TCP connections share what gVisor may buffer for them (type budget).
//
// Not carried: multicast and broadcast to the host's network, IGMP and MLD, SCTP
// and other transports, TCP in IP fragments, and TCP urgent data, which arrives
// in line. A UDP datagram from the host is written to the tap whole, even above
// its MTU, since the kernel behind it takes it. The don't-fragment bit of the
// container's datagrams is not carried over: the host fragments what is longer
// than its path.
package netstack
