// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack/sockaddr"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// udpPacket is a datagram of the container's, as ingress sees it.
func (r *rig) udpPacket(port uint16, dst netip.AddrPort, size int) packet {
	l4 := make([]byte, udpLen+size)
	header.UDP(l4).Encode(&header.UDPFields{SrcPort: port, DstPort: dst.Port(), Length: uint16(len(l4))})
	return packet{src: r.plan.Of(dst.Addr()).Container, dst: dst.Addr(), proto: protoUDP, ttl: 64, l4: l4}
}

// perDatagram runs a benchmark for each size of datagrams, in bytes, one for each wake-up
// of the loop and in runs. carry makes what takes one datagram along, and wake what the
// loop does at the end of a run; both are called on the loop.
func (r *rig) perDatagram(b *testing.B, carry func(size int) func(), wake func()) {
	for _, size := range []int{64, 1400, 8192} {
		for _, batch := range []int{1, 16} {
			b.Run(fmt.Sprintf("%d/batches of %d", size, batch), func(b *testing.B) {
				r.on(func() {
					one := carry(size)
					b.ReportAllocs()
					b.SetBytes(int64(size))
					n := 0
					for b.Loop() {
						one()
						if n++; n%batch == 0 {
							wake()
						}
					}
					wake()
				})
			})
		}
	}
}

// BenchmarkUDPUp carries datagrams from the container to a socket of the host that
// nobody reads, in batches as a turn of the loop has them.
func BenchmarkUDPUp(b *testing.B) {
	r := newRig(b, options{own: true, quiet: true})
	outside, dst := listenUDP(b, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	must(b, outside.SetReadBuffer(1))
	r.perDatagram(b, func(size int) func() {
		p := r.udpPacket(40000, dst, size)
		return func() {
			q := p
			r.net.udp.ingress(&q, 0, true)
		}
	}, r.net.pending.flush)
}

// BenchmarkUDPLookup finds the flow of a datagram among many. Each has a new
// destination, so that the policy is asked too.
func BenchmarkUDPLookup(b *testing.B) {
	r := newRig(b, options{own: true, quiet: true})
	const flows = 500
	packets := make([]packet, flows)
	for i := range packets {
		dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, 1}), 9)
		packets[i] = r.udpPacket(uint16(10000+i), dst, 0)
	}
	r.on(func() {
		t := &r.net.udp
		for i := range packets {
			src := netip.AddrPortFrom(packets[i].src, uint16(10000+i))
			f := &udpFlow{mapping: mapping{flow: r.net.newFlow(src, netip.AddrPort{}, netip.AddrPort{}), fd: -1}, table: t, key: udpKey{container: src}}
			f.element = t.idle.PushBack(f)
			t.flows[f.key] = f
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			p := &packets[i%flows]
			f := t.flows[udpKey{container: netip.AddrPortFrom(p.src, binary.BigEndian.Uint16(p.l4))}]
			d := r.net.cfg.Policy.Decide(protoUDP, netip.AddrPortFrom(p.dst, 9))
			f.touch(d.Dial, d.Dial)
			i++
		}
		for _, f := range t.flows {
			t.idle.Remove(f.element)
		}
		clear(t.flows)
	})
}

// BenchmarkUDPDown carries datagrams from a socket of the host to the container's
// side of the link, one for each wake-up and in runs that the kernel joins.
func BenchmarkUDPDown(b *testing.B) {
	r := newRig(b, options{own: true, quiet: true})
	r.net.link.fd = nullLink(b, offloadAll).fd
	outside, dst := listenUDP(b, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	var f *udpFlow
	r.on(func() {
		p := r.udpPacket(40000, dst, 1)
		r.net.udp.ingress(&p, 0, true)
		r.net.pending.flush()
		for _, f = range r.net.udp.flows {
		}
		r.net.loop.Remove(f.fd, f.token) // the benchmark calls it
	})
	_, mapped, err := outside.ReadFromUDPAddrPort(make([]byte, 1))
	must(b, err)
	raw, err := outside.SyscallConn()
	must(b, err)
	r.perDatagram(b, func(size int) func() {
		payload := make([]byte, size)
		return func() {
			_ = raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), payload, 0, sockaddr.Of(mapped)) })
		}
	}, f.receive)
	must(b, err)
	r.on(func() { r.net.udp.close(f) })
}

// BenchmarkPublishedUDPDown carries datagrams from a client to the container's side of
// the link, one for each wake-up and in runs.
func BenchmarkPublishedUDPDown(b *testing.B) {
	r := newRig(b, options{own: true, quiet: true})
	r.net.link.fd = nullLink(b, offloadAll).fd
	host := r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	c, _ := client(b, host)
	raw, err := c.SyscallConn()
	must(b, err)
	p := r.port()
	r.on(func() { r.net.loop.Remove(p.FD, p.token) }) // the benchmark calls it
	r.perDatagram(b, func(size int) func() {
		payload := make([]byte, size)
		return func() {
			_ = raw.Control(func(fd uintptr) { _, err = unix.Write(int(fd), payload) })
		}
	}, p.receive)
	must(b, err)
}

// BenchmarkPublishedUDPUp carries the container's answers to a client that does not
// read them.
func BenchmarkPublishedUDPUp(b *testing.B) {
	r := newRig(b, options{own: true, quiet: true})
	r.net.link.fd = nullLink(b, offloadAll).fd
	host := r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	c, own := client(b, host)
	must(b, c.SetReadBuffer(1))
	_, err := c.Write([]byte("x"))
	must(b, err)
	r.on(func() { r.port1().receive() })
	r.perDatagram(b, func(size int) func() {
		answer := r.udpPacket(servicePort, netip.AddrPortFrom(r.plan.V4.Gateway, own.Port()), size)
		return func() {
			q := answer
			r.net.udp.ingress(&q, 0, true)
		}
	}, r.net.pending.flush)
}

// BenchmarkPublishedUDPFlood has each datagram come from another client.
func BenchmarkPublishedUDPFlood(b *testing.B) {
	r := newRig(b, options{own: true, quiet: true})
	r.net.link.fd = nullLink(b, offloadAll).fd
	r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	r.on(func() {
		p, parts := r.port1(), [][]byte{make([]byte, 64)}
		a := arrival{to: netip.MustParseAddr("192.0.2.1")}
		b.ReportAllocs()
		i := uint32(0)
		for b.Loop() {
			i++
			a.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 24), byte(i >> 16)}), uint16(i)|1)
			p.deliver(parts, a)
		}
	})
}
