// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// udpIdle is how long a mapping is kept without traffic: the five minutes
	// that RFC 4787 §4.3 (REQ-5) recommends.
	udpIdle = 300 * time.Second
	// udpIdleDNS is the same for a mapping that has spoken to port 53 only, to
	// which RFC 4787 REQ-5 b) allows less: one question, one answer.
	udpIdleDNS = 10 * time.Second
)

// A udpTable maps each address and port of the container's to one socket of the
// host, whatever the destination: endpoint-independent mapping and filtering
// (RFC 4787 REQ-1 and REQ-8), so that peers can find each other.
type udpTable struct {
	mappingTable[udpKey, *udpFlow]
	bound bool // sockets are bound as Config.Outbound says
}

// A udpKey names a mapping. Where sockets are bound to an address or interface, a
// container's address has two: the host's loopback is reached only from a socket
// that is not bound, and nothing else may be reached from that.
type udpKey struct {
	container netip.AddrPort
	bound     bool
}

func (t *udpTable) init(n *Network) {
	t.mappingTable.init(n, n.cfg.MaxFlows, func(f *udpFlow) udpKey { return f.key })
	t.bound = n.cfg.Outbound != Outbound{}
}

// A udpFlow is one mapping. It is owned by the loop.
type udpFlow struct {
	mapping
	table   *udpTable
	key     udpKey
	out     outlet
	dnsOnly bool // has spoken to port 53 only
}

// ingress handles a datagram of the container's; segment is the size of the
// datagrams that it is made of, or 0 for a single one.
func (t *udpTable) ingress(p *packet, segment int, partial bool) {
	n := t.n
	if len(p.l4) < udpLen {
		n.count.inc(dropMalformed)
		return
	}
	u := header.UDP(p.l4)
	size := int(u.Length())
	if size < udpLen || size > p.len() {
		n.count.inc(dropMalformed)
		return
	}
	p.rest = p.rest[:max(0, min(len(p.rest), size-len(p.l4)))]
	p.l4 = p.l4[:min(len(p.l4), size)]
	if !partial && !udpChecksumValid(p) {
		n.count.inc(dropMalformed)
		return
	}
	src := netip.AddrPortFrom(p.src, u.SourcePort())
	dst := netip.AddrPortFrom(p.dst, u.DestinationPort())
	if n.udpService(p, src, dst) {
		return
	}
	if f := n.inbound.udp.flows[tuple{src, dst}]; f != nil {
		f.reply(p, segment)
		return
	}
	if src.Addr().IsLoopback() {
		n.count.inc(dropSpoofed) // an answer to nobody
		return
	}
	key := udpKey{src, t.bound}
	f := t.flows[key]
	var host netip.AddrPort
	if f != nil && f.remote == dst {
		host = f.host
	} else {
		d := n.cfg.Policy.Decide(protoUDP, dst)
		if d.Verdict == policy.Denied {
			n.refuse(p, d)
			return
		}
		host = d.Dial
		if t.bound && host.Addr().IsLoopback() {
			key.bound = false
			f = t.flows[key]
		}
	}
	if n.expired(p) {
		return
	}
	if f == nil {
		if f = t.open(key, dst, host); f == nil {
			return
		}
	}
	f.touch(dst, host)
	if err := f.mark(max(1, p.ttl-1), p.tos); err != nil {
		n.count.inc(dropSend)
		return
	}
	f.up += uint64(p.len() - udpLen)
	n.pending.add(&f.out, host, p, segment)
}

// open makes the mapping for a source, at the expense of the least recently used
// one where there are as many as may be.
func (t *udpTable) open(key udpKey, dst, host netip.AddrPort) *udpFlow {
	n, src := t.n, key.container
	fd, err := t.socket(host.Addr(), 0)
	if err != nil {
		n.noSocket(err)
	}
	if fd < 0 {
		return nil
	}
	f := &udpFlow{
		mapping: mapping{flow: n.newFlow(src, dst, host), fd: fd},
		table:   t, key: key, dnsOnly: true,
	}
	f.out = outlet{owner: f, fd: fd, gsoMax: maxDatagram}
	setDatagramOptions(fd, src.Addr().Is6())
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) // Linux 5.0; without it datagrams come one by one
	if !t.add(f) {
		return nil
	}
	n.count.inc(flowsUDP)
	return f
}

// setDatagramOptions asks for ICMP errors and hop limits to be reported on a
// socket. A kernel that lacks one of them merely reports less.
func setDatagramOptions(fd int, v6 bool) {
	if v6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
	} else {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
	}
	// Room for a burst while the loop is elsewhere; the kernel caps it at rmem_max.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, datagramBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, datagramBuffer)
}

// ends is outletOwner's.
func (f *udpFlow) ends(dst netip.AddrPort) (container, remote netip.AddrPort) {
	return f.container, f.seenAs(dst)
}

// datagramBuffer is the socket buffer asked for, each way (bytes).
const datagramBuffer = 4 << 20

// touch notes that the container uses the mapping.
func (f *udpFlow) touch(dst, host netip.AddrPort) {
	f.remote, f.host = dst, host
	f.dnsOnly = f.dnsOnly && dst.Port() == dnsPort
	f.table.used(f)
}

// mark makes the socket send with the hop limit and traffic class that the
// container chose, which seldom change within a flow.
func (f *udpFlow) mark(ttl, tos uint8) error {
	if f.out.ttl == ttl && f.out.tos == tos {
		return nil
	}
	f.table.n.pending.flush() // what is pending was chosen otherwise
	f.out.ttl, f.out.tos = ttl, tos
	return markSocket(f.fd, f.container.Addr().Is6(), ttl, tos)
}

func markSocket(fd int, v6 bool, ttl, tos uint8) error {
	tos = ownClass(tos)
	if v6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, int(ttl)); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(tos))
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, int(ttl)); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, int(tos))
}

// refused is called when the container said that nobody listens at its end: the
// host socket goes, so that the host's kernel says the same to the sender.
func (t *udpTable) refused(container netip.AddrPort) {
	for _, bound := range [...]bool{false, true} {
		if f := t.flows[udpKey{container, bound}]; f != nil {
			t.close(f)
		}
	}
}

// expire closes the mappings that were idle for too long.
func (t *udpTable) expire() {
	t.mappingTable.expire(udpIdleDNS, func(f *udpFlow, idle time.Duration) bool { return idle >= udpIdle || f.dnsOnly })
}

func (f *udpFlow) info() FlowInfo {
	return f.flow.info(f.table.n.now, "udp", PathLink, open.String())
}

// udpChecksumValid verifies a checksum that the container's kernel has filled in.
func udpChecksumValid(p *packet) bool {
	given := binary.BigEndian.Uint16(p.l4[udpChecksumOffset:])
	if given == 0 && p.src.Is4() {
		return true // RFC 768: none; RFC 8200 §8.1: not so for IPv6
	}
	if len(p.l4)%2 != 0 && len(p.rest) > 0 {
		return false // cannot be: headLen and all header lengths are even
	}
	sum := header.PseudoHeaderChecksum(protoUDP, tcpipAddr(p.src), tcpipAddr(p.dst), uint16(p.len()))
	return checksum.Checksum(p.rest, checksum.Checksum(p.l4, sum)) == 0xffff
}

// partialChecksum reports whether the frame just read has its checksum left to
// whoever needs it.
func partialChecksum(vh *tap.VNetHdr) bool { return vh.Flags&tap.VNetNeedsCSum != 0 }
