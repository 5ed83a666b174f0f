// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// A udpPort is what a listener of UDP has besides: the clients that came there. It
// is owned by the loop.
type udpPort struct {
	*listener
	clients map[netip.AddrPort]*inboundFlow // by their own address and port
	deaf    deafness
	heard   [2]time.Duration // when the container last answered, by its end's family
	turned  [2]bool          // whether clients go to the other end than the first, by that one's family
}

// openUDP prepares the socket. The error says what cannot be published.
func (l *listener) openUDP() error {
	if l.Loopback {
		if err := l.n.inbound.openInlets(); err != nil {
			return err
		}
	} else if c := l.Container.Addr(); c.IsValid() && !l.n.cfg.Plan.Of(c).Enabled() {
		return fmt.Errorf("publish UDP for %s: the container's network has no addresses of that family", c)
	}
	domain, err := unix.GetsockoptInt(l.FD, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_DOMAIN", err)
	}
	// An IPv6 socket may carry IPv4 too, and has the options of both.
	families := []bool{false}
	if domain == unix.AF_INET6 {
		families = append(families, true)
	}
	for _, v6 := range families {
		setDatagramOptions(l.FD, v6)
		if err := setPacketInfo(l.FD, v6); err != nil {
			return err
		}
	}
	_ = unix.SetsockoptInt(l.FD, unix.IPPROTO_UDP, unix.UDP_GRO, 1) // as for outbound flows
	l.udp = &udpPort{listener: l, clients: make(map[netip.AddrPort]*inboundFlow), heard: [...]time.Duration{-lately, -lately}}
	return nil
}

// setPacketInfo asks for the address at which datagrams come in, and for none that
// are for a multicast group that some other socket has joined.
func setPacketInfo(fd int, v6 bool) error {
	level, info, all := unix.IPPROTO_IP, unix.IP_PKTINFO, unix.IP_MULTICAST_ALL
	if v6 {
		level, info, all = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, unix.IPV6_MULTICAST_ALL
	}
	_ = unix.SetsockoptInt(fd, level, all, 0)
	return os.NewSyscallError("setsockopt IP_PKTINFO", unix.SetsockoptInt(fd, level, info, 1))
}

// receiveUDP passes on what has come in at a published UDP port.
func (l *listener) receiveUDP(ev loop.Events) {
	if ev&loop.Error != 0 {
		l.udp.drainErrors()
	}
	l.udp.receive()
}

func (p *udpPort) receive() {
	if p.n.inbound.listeners[p.ID] != p.listener {
		return // closed since this was put off
	}
	more := p.n.receiver().drain(p.FD, p, !p.Loopback && p.n.link.offload.Has(tap.OffloadUSO))
	p.n.pending.flush() // to services at loopback
	if more {
		p.n.loop.Defer(p.receive)
	}
}

// deliver is datagramSink's.
func (p *udpPort) deliver(parts [][]byte, a arrival) {
	f := p.clients[a.from]
	if f == nil {
		if f = p.open(a.from, p.end(a.from.Addr())); f == nil {
			return
		}
		p.keep(f, parts, a)
	}
	f.arrived(a)
	f.down += uint64(total(parts))
	p.n.inbound.udp.used(f)
	if f.in != nil {
		f.enter(parts, a)
		return
	}
	p.n.deliverUDP(parts, f.remote, f.container, a)
}

// open makes the flow of a new client to an end of the container's, or counts why there is
// none.
func (p *udpPort) open(client, container netip.AddrPort) *inboundFlow {
	if !answerable(client) {
		p.n.count.inc(dropClient)
		return nil
	}
	t := &p.n.inbound.udp
	t.makeRoom()
	remote := netip.AddrPort{}
	inlet := p.n.inbound.inlet(container.Addr())
	switch {
	case !p.Loopback:
		remote = t.shown(client, container)
	case inlet != nil:
		remote = inlet.name(container)
	}
	if !remote.IsValid() {
		p.n.count.inc(dropFlowLimit)
		return nil
	}
	f := &inboundFlow{flow: p.n.newFlow(container, remote, p.Host), port: p, client: client}
	f.inbound = true
	f.out = outlet{owner: f, fd: p.FD, gsoMax: maxDatagram, shared: true}
	if p.Loopback {
		f.in = inlet.outlet(remote)
	}
	t.add(f)
	return f
}

// answerable reports whether a datagram can have come from there and an answer may go
// there. A link-local address means nothing on the container's side of the tap.
func answerable(client netip.AddrPort) bool {
	a := client.Addr()
	return client.Port() != 0 && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// drainErrors passes the ICMP errors that the kernel noted on the socket on to
// the container, and reports whether there were any.
func (p *udpPort) drainErrors() bool {
	return p.n.drainErrors(p.FD, p.Host.Addr(), func(e *socketError) {
		if f := p.clients[e.dst]; f != nil {
			f.undelivered(e)
		}
	})
}

// closeUDP ends what the port's clients have.
func (l *listener) closeUDP() {
	l.n.pending.flush()
	t := &l.n.inbound.udp
	for _, f := range l.udp.clients {
		t.close(f)
	}
	delete(t.deaf, l.udp)
}
