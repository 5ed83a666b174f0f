// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"errors"
	"net/netip"

	"github.com/slipway-net/slipway/netstack/neighbor"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Ports of the services that answer on the link (RFC 2131 §4.1, RFC 8415 §7.2).
const (
	dhcp4ServerPort = 67
	dhcp4ClientPort = 68
	dhcp6ClientPort = 546
	dhcp6ServerPort = 547
)

// udpService answers a datagram for one of the plan's own services, and reports
// whether it was for one.
func (n *Network) udpService(p *packet, src, dst netip.AddrPort) bool {
	switch {
	case n.cfg.Without.datagram(src, dst):
		n.count.inc(dropProtocol)
		return true
	case n.cfg.DNS != nil && n.isDNS(dst):
		n.dns.ask(n.udpPayload(p), src, dst)
		return true
	case dst.Port() == dhcp4ServerPort && src.Port() == dhcp4ClientPort && dst.Addr().Is4():
		n.answerDHCP4(n.udpPayload(p))
		return true
	case dst.Port() == dhcp6ServerPort && src.Port() == dhcp6ClientPort && dst.Addr().Is6():
		n.answerDHCP6(n.udpPayload(p), src)
		return true
	}
	if p.src.IsUnspecified() {
		n.count.inc(dropSpoofed)
		return true
	}
	return false
}

// udpPayload returns the payload of a datagram in one piece, valid until the next
// frame is read.
func (n *Network) udpPayload(p *packet) []byte {
	if len(p.rest) == 0 {
		return p.l4[udpLen:]
	}
	n.flat = append(append(n.flat[:0], p.l4[udpLen:]...), p.rest...)
	return n.flat
}

func (n *Network) answerDHCP4(req []byte) {
	reply, dst, ok := n.dhcp.Reply4(req, n.start.Add(n.now))
	if !ok {
		n.count.inc(dropNoAnswer)
		return
	}
	h := ipHeader{src: n.cfg.Plan.V4.Gateway, dst: dst}
	n.emit.udp(h, dhcp4ServerPort, dhcp4ClientPort, 0, reply)
}

func (n *Network) answerDHCP6(req []byte, from netip.AddrPort) {
	reply, ok := n.dhcp.Reply6(req, n.start.Add(n.now))
	if !ok {
		n.count.inc(dropNoAnswer)
		return
	}
	h := ipHeader{src: n.cfg.Plan.RouterLinkLocal(), dst: from.Addr()}
	n.emit.udp(h, dhcp6ServerPort, from.Port(), 0, reply)
}

// advertise sends a router advertisement to whoever listens.
func (n *Network) advertise() {
	if !n.cfg.Plan.V6.Enabled() || n.cfg.Without.NDP || n.cfg.Without.RA {
		return
	}
	h := ipHeader{
		src: n.cfg.Plan.RouterLinkLocal(), dst: neighbor.AllNodes(),
		proto: protoICMPv6, ttl: neighbor.HopLimit,
	}
	n.emit.ip(h, n.neighbor.RouterAdvert())
}

// noSocket counts, and says, that the host gives us no descriptor.
func (n *Network) noSocket(err error) {
	n.count.inc(dropNoSocket)
	if n.now-n.complained < complainEvery && n.complained != 0 {
		return
	}
	n.complained = n.now
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		n.log.Warn("no descriptor for a flow: raise the limit of open files (ulimit -n)", "err", err)
		return
	}
	n.log.Warn("no socket for a flow", "err", err)
}

// complainEvery keeps a container from filling the host's log.
const complainEvery = 10 * tickEvery

func icmpChecksumValid(p *packet, msg []byte) bool {
	var sum uint16
	if p.src.Is6() {
		sum = header.PseudoHeaderChecksum(protoICMPv6, tcpipAddr(p.src), tcpipAddr(p.dst), uint16(len(msg)))
	}
	return checksum.Checksum(msg, sum) == 0xffff
}
