// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/netstack/sockaddr"
	"golang.org/x/sys/unix"
)

const (
	// pingIdle is how long an echo identifier is kept: the sixty seconds that
	// RFC 5508 §3.2 (REQ-2) asks for at least.
	pingIdle = 60 * time.Second
	// maxPings is how many of them there are at most.
	maxPings = 1024

	echoRequest4 = 8   // RFC 792
	echoReply4   = 0   // RFC 792
	echoRequest6 = 128 // RFC 4443 §4.1
	echoReply6   = 129 // RFC 4443 §4.2
)

// A pingTable maps each echo identifier of the container's to one unprivileged
// ICMP socket of the host (icmp(7), net.ipv4.ping_group_range).
type pingTable struct {
	mappingTable[netip.AddrPort, *pingFlow] // by the container's address and identifier

	refused bool // the host lets us make none; said once
}

func (t *pingTable) init(n *Network) {
	t.mappingTable.init(n, maxPings, func(f *pingFlow) netip.AddrPort { return f.container })
}

// A pingFlow is one such mapping. It is owned by the loop.
type pingFlow struct {
	mapping
	table    *pingTable
	ttl, tos uint8 // what the socket sends with
}

// echo handles an echo request; msg is the whole ICMP message. A gateway that is one of
// the host's network answers for itself, where it leads to nothing of the host's.
func (t *pingTable) echo(p *packet, msg []byte) {
	n := t.n
	f, serves := n.cfg.Plan.Of(p.dst), n.cfg.Policy.Serves(p.dst)
	if others := f.Shared && p.dst == f.Gateway && p.dst != f.DNS; serves || f.Ours(p.dst) && !others {
		n.replyEcho(p, msg)
		return
	}
	dst := netip.AddrPortFrom(p.dst, 0)
	d := n.cfg.Policy.Decide(p.proto, dst)
	if d.Verdict == policy.Denied {
		n.refuse(p, d)
		return
	}
	if n.expired(p) {
		return
	}
	key := netip.AddrPortFrom(p.src, binary.BigEndian.Uint16(msg[4:]))
	flow := t.flows[key]
	if flow == nil {
		if flow = t.open(key, dst, d.Dial); flow == nil {
			return
		}
	}
	flow.remote, flow.host = dst, d.Dial
	t.used(flow)
	flow.send(p, msg)
}

func (t *pingTable) open(key, dst, host netip.AddrPort) *pingFlow {
	proto := unix.IPPROTO_ICMP
	if host.Addr().Is6() {
		proto = unix.IPPROTO_ICMPV6
	}
	fd, err := t.socket(host.Addr(), proto)
	if err != nil {
		t.forbidden(err)
	}
	if fd < 0 {
		return nil
	}
	f := &pingFlow{mapping: mapping{flow: t.n.newFlow(key, dst, host), fd: fd}, table: t}
	setDatagramOptions(fd, host.Addr().Is6())
	if !t.add(f) {
		return nil
	}
	t.n.count.inc(flowsPing)
	return f
}

// forbidden says once, and clearly, why there is no ping.
func (t *pingTable) forbidden(err error) {
	t.n.count.inc(dropNoSocket)
	if t.refused {
		return
	}
	t.refused = true
	t.n.log.Warn("ping is forbidden on this host; to allow it: sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'",
		"err", err)
}

// send passes an echo request on; the host's kernel puts its own identifier in
// and computes the checksum.
func (f *pingFlow) send(p *packet, msg []byte) {
	n := f.table.n
	if ttl := p.ttl - 1; f.ttl != ttl || f.tos != p.tos {
		f.ttl, f.tos = ttl, p.tos
		if err := markSocket(f.fd, f.container.Addr().Is6(), f.ttl, f.tos); err != nil {
			n.count.inc(dropSend)
			return
		}
	}
	err := unix.Sendto(f.fd, msg, 0, sockaddr.Of(f.host))
	if err != nil && f.drainErrors() {
		err = unix.Sendto(f.fd, msg, 0, sockaddr.Of(f.host)) // that was an earlier one's error
	}
	if err != nil {
		n.count.inc(dropSend)
		n.report(p, troubleOf(err))
		return
	}
	f.up += uint64(len(msg))
}

// Ready is called by the loop with the socket's events.
func (f *pingFlow) Ready(ev loop.Events) {
	if ev&loop.Error != 0 {
		f.drainErrors()
	}
	n := f.table.n
	r := n.receiver()
	for {
		count, errno := r.receive(f.fd)
		if errno != 0 && (errno == unix.EAGAIN || !f.drainErrors()) {
			return
		}
		for i := range count {
			b, a := r.message(i)
			if len(b) < icmpHeaderLen {
				continue
			}
			f.down += uint64(len(b))
			f.last = n.now
			h := ipHeader{src: n.cfg.Policy.SeenAs(protoICMPv4, a.from).Addr(), dst: f.container.Addr(), proto: protoICMPv4, ttl: hop(a.ttl)}
			if h.dst.Is6() {
				h.proto = protoICMPv6
			}
			binary.BigEndian.PutUint16(b[4:], f.container.Port())
			putICMPChecksum(h, b)
			n.emit.ip(h, b)
		}
	}
}

// drainErrors passes ICMP errors, such as the hops of a traceroute, on to the
// container, and reports whether there were any.
func (f *pingFlow) drainErrors() bool {
	n := f.table.n
	any := false
	for range errorsPerTurn {
		e, ok := readError(f.fd, f.container.Addr())
		if !ok {
			break
		}
		any = true
		if e.kind == 0 && e.code == 0 || len(e.body) < icmpHeaderLen {
			continue
		}
		q := ipHeader{src: f.container.Addr(), dst: n.cfg.Policy.SeenAs(protoICMPv4, e.dst).Addr(), proto: protoICMPv4, ttl: f.ttl}
		e.body[0] = echoRequest4
		if q.src.Is6() {
			q.proto, e.body[0] = protoICMPv6, echoRequest6
		}
		binary.BigEndian.PutUint16(e.body[4:], f.container.Port())
		n.sendICMPError(icmpError{
			kind: e.kind, code: e.code, info: e.info,
			from:  n.cfg.Policy.SeenAs(protoICMPv4, netip.AddrPortFrom(e.offender, 0)).Addr(),
			quote: q, body: e.body, size: len(e.body),
		})
	}
	return any
}

func (t *pingTable) expire() {
	t.mappingTable.expire(pingIdle, func(*pingFlow, time.Duration) bool { return true })
}

func (f *pingFlow) info() FlowInfo {
	return f.flow.info(f.table.n.now, "icmp", PathLink, open.String())
}

// replyEcho answers an echo request to an address of ours.
func (n *Network) replyEcho(p *packet, msg []byte) {
	reply := append([]byte(nil), msg...)
	reply[0] = echoReply4
	if p.dst.Is6() {
		reply[0] = echoReply6
	}
	h := ipHeader{src: p.dst, dst: p.src, proto: p.proto, tos: p.tos}
	putICMPChecksum(h, reply)
	n.emit.ip(h, reply)
}

// expired reports whether a packet's hop limit ends at us, as at any router, and
// tells the container so. It does not where the destination is behind our own
// address.
func (n *Network) expired(p *packet) bool {
	if p.ttl > 1 || n.cfg.Policy.Serves(p.dst) {
		return false
	}
	n.report(p, ttlExceeded)
	return true
}
