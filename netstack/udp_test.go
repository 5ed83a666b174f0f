// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// listenUDP opens a datagram socket on the host's loopback.
func listenUDP(t testing.TB, loopback, gateway netip.Addr) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c, netip.AddrPortFrom(gateway, uint16(c.LocalAddr().(*net.UDPAddr).Port))
}

func TestUDPBothWays(t *testing.T) {
	for name, offload := range map[string]tap.Offload{"all": offloadAll, "header": tap.OffloadVNet} {
		r := newRig(t, options{mtu: 65520, offload: offload})
		for family, f := range families(r) {
			for _, size := range []int{0, 1, 64, 85, 86, 87, 1400, 9000, 60000} {
				t.Run(name+"/"+family, func(t *testing.T) {
					outside, addr := listenUDP(t, f.loopback, f.gateway)
					inside := r.packet(addr, f.gateway.Is6())
					want := random(size)
					_, err := inside.Write(want)
					must(t, err)
					buf := make([]byte, 1<<16)
					n, from, err := outside.ReadFromUDPAddrPort(buf)
					must(t, err)
					if !bytes.Equal(buf[:n], want) {
						t.Fatalf("host got %d other bytes, want %d", n, size)
					}
					_, err = outside.WriteToUDPAddrPort(want, from)
					must(t, err)
					n, err = inside.Read(buf)
					must(t, err)
					if !bytes.Equal(buf[:n], want) {
						t.Fatalf("container got %d other bytes, want %d", n, size)
					}
				})
			}
		}
	}
}

// The largest datagram does not fit the MTU: the container sends it in
// fragments.
func TestUDPFragments(t *testing.T) {
	r := newRig(t, options{mtu: 1500})
	for family, f := range families(r) {
		t.Run(family, func(t *testing.T) {
			outside, addr := listenUDP(t, f.loopback, f.gateway)
			inside := r.packet(addr, f.gateway.Is6())
			want := random(20000)
			_, err := inside.Write(want)
			must(t, err)
			buf := make([]byte, 1<<16)
			n, _, err := outside.ReadFromUDPAddrPort(buf)
			must(t, err)
			if !bytes.Equal(buf[:n], want) {
				t.Errorf("host got %d other bytes, want %d", n, len(want))
			}
		})
	}
}

// Anyone who learns the mapped address may send to the container (RFC 4787).
func TestUDPIsFullCone(t *testing.T) {
	r := newRig(t, options{})
	for family, f := range families(r) {
		t.Run(family, func(t *testing.T) {
			first, addr := listenUDP(t, f.loopback, f.gateway)
			second, addr2 := listenUDP(t, f.loopback, f.gateway)
			inside := r.packet(netip.AddrPort{}, f.gateway.Is6())
			_, err := inside.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(addr))
			must(t, err)
			var b [16]byte
			_, mapped, err := first.ReadFromUDPAddrPort(b[:])
			must(t, err)
			_, err = second.WriteToUDPAddrPort([]byte("hi"), mapped)
			must(t, err)
			n, from, err := inside.ReadFrom(b[:])
			must(t, err)
			if string(b[:n]) != "hi" || netip.MustParseAddrPort(from.String()) != addr2 {
				t.Errorf("container got %q from %v, want hi from %v", b[:n], from, addr2)
			}
		})
	}
}

func TestUDPRunsBecomeOneMessage(t *testing.T) {
	r := newRig(t, options{})
	f := families(r)["IPv4"]
	outside, addr := listenUDP(t, f.loopback, f.gateway)
	body := func(i, n int) []byte { return bytes.Repeat([]byte{byte(i)}, n) }
	sizes := []int{100, 100, 100, 40, 100, 300, 300, 100, 0, 0, 100}
	for i, n := range sizes {
		r.send(r.datagram(5000, addr, body(i, n)))
	}
	buf := make([]byte, 2048)
	for i, n := range sizes {
		got, _, err := outside.ReadFromUDPAddrPort(buf)
		must(t, err)
		if !bytes.Equal(buf[:got], body(i, n)) {
			t.Fatalf("datagram %d: got %d bytes of %v, want %d", i, got, buf[:min(got, 1)], n)
		}
	}
}

func TestUDPRefusedByHost(t *testing.T) {
	r := newRig(t, options{raw: true})
	for family, f := range families(r) {
		t.Run(family, func(t *testing.T) {
			outside, addr := listenUDP(t, f.loopback, f.gateway)
			outside.Close()
			r.send(r.datagram(5000, addr, []byte("hello")))
			want := icmpTypes[portUnreachable].v4
			if f.gateway.Is6() {
				want = icmpTypes[portUnreachable].v6
			}
			r.next(func(frame []byte) bool {
				p, ok := parsePacket(frame[ethernetLen:], nil)
				if !ok || p.proto != protoICMPv4 && p.proto != protoICMPv6 || [2]uint8(p.l4) != want {
					return false
				}
				if !icmpChecksumValid(&p, p.l4) {
					t.Error("bad checksum")
				}
				q, ok := parseQuoted(p.l4[icmpHeaderLen:])
				if !ok || netip.AddrPortFrom(q.dst, binary.BigEndian.Uint16(q.l4[2:])) != addr {
					t.Errorf("the error is about %+v, want a datagram to %v", q, addr)
				}
				return p.src == f.gateway
			})
		})
	}
}

// A port that the container has closed must look closed to the host too.
func TestUDPRefusedByContainer(t *testing.T) {
	r := newRig(t, options{raw: true})
	f := families(r)["IPv4"]
	outside, addr := listenUDP(t, f.loopback, f.gateway)
	r.send(r.datagram(5000, addr, []byte("hello")))
	var b [64]byte
	_, mapped, err := outside.ReadFromUDPAddrPort(b[:])
	must(t, err)
	_, err = outside.WriteToUDPAddrPort([]byte("late"), mapped)
	must(t, err)
	frame := r.next(func(f []byte) bool {
		return header.Ethernet(f).Type() == header.IPv4ProtocolNumber && f[ethernetLen+9] == protoUDP
	})
	msg := make([]byte, icmpHeaderLen, 64)
	msg[0], msg[1] = 3, 3
	msg = append(msg, frame[ethernetLen:ethernetLen+ipv4MinLen+udpLen]...)
	h := ipHeader{src: r.plan.V4.Container, dst: f.gateway, proto: protoICMPv4, ttl: 64}
	putICMPChecksum(h, msg)
	r.send(frameOf(r, h, msg))
	eventually(func() bool { return len(r.net.Flows(context.Background())) == 0 })
}

func TestUDPEvictsTheOldest(t *testing.T) {
	r := newRig(t, options{cfg: func(c *Config) { c.MaxFlows = 4 }})
	f := families(r)["IPv4"]
	_, addr := listenUDP(t, f.loopback, f.gateway)
	for port := range uint16(10) {
		r.send(r.datagram(6000+port, addr, []byte("x")))
	}
	r.settle()
	var got []uint16
	for _, fl := range r.net.Flows(context.Background()) {
		got = append(got, fl.Container.Port())
	}
	if want := []uint16{6006, 6007, 6008, 6009}; !equal(got, want) {
		t.Errorf("flows of ports %v, want %v", got, want)
	}
	if n := r.counter("flows_evicted"); n != 6 {
		t.Errorf("%d evicted, want 6", n)
	}
}

func TestUDPTimers(t *testing.T) {
	r := newRig(t, options{})
	f := families(r)["IPv4"]
	_, addr := listenUDP(t, f.loopback, f.gateway)
	r.send(r.datagram(6000, addr, []byte("x")))
	r.send(r.datagram(6001, netip.AddrPortFrom(f.gateway, 53), []byte("x")))
	r.settle()
	alive := func(idle time.Duration) int {
		n := make(chan int)
		r.net.loop.Post(func() {
			r.net.start = time.Now().Add(-idle) // as if that time had passed
			for _, f := range r.net.udp.flows {
				f.last = 0
			}
			r.net.expire()
			n <- len(r.net.udp.flows)
		})
		return <-n
	}
	for _, step := range []struct {
		idle time.Duration
		want int
	}{{udpIdleDNS - time.Second, 2}, {udpIdleDNS + time.Second, 1}, {udpIdle - time.Second, 1}, {udpIdle + time.Second, 0}} {
		if got := alive(step.idle); got != step.want {
			t.Errorf("%d flows after %v, want %d", got, step.idle, step.want)
		}
	}
}

func TestDNSThroughTheResolverAddress(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer server.Close()
	go echoDNS(server)
	r := newRig(t, options{dns: []netip.AddrPort{netip.MustParseAddrPort(server.LocalAddr().String())}})
	for family, f := range families(r) {
		t.Run(family, func(t *testing.T) {
			c := r.packet(netip.AddrPortFrom(f.dns, dnsPort), f.dns.Is6())
			_, err := c.Write(dnsQuestion(t))
			must(t, err)
			buf := make([]byte, 512)
			n, err := c.Read(buf)
			must(t, err)
			var m dnsmessage.Message
			must(t, m.Unpack(buf[:n]))
			if m.ID != 77 || !m.Response || m.RCode != dnsmessage.RCodeSuccess {
				t.Errorf("answer %+v", m.Header)
			}
		})
	}
}

// dnsQuestion is a query with the id 77.
func dnsQuestion(t testing.TB) []byte {
	t.Helper()
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 77, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	b, err := q.Pack()
	must(t, err)
	return b
}

// echoDNS answers every query with its own question.
func echoDNS(c net.PacketConn) {
	b := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		b[2] |= 0x80
		c.WriteTo(b[:n], from)
	}
}

// datagram makes a frame with a datagram from the container's port.
func (r *rig) datagram(port uint16, dst netip.AddrPort, body []byte) []byte {
	return r.datagramFrom(netip.AddrPortFrom(r.plan.Of(dst.Addr()).Container, port), dst, body)
}

// datagramFrom is datagram from any address.
func (r *rig) datagramFrom(src, dst netip.AddrPort, body []byte) []byte {
	h := ipHeader{src: src.Addr(), dst: dst.Addr(), proto: protoUDP, ttl: 64}
	d := make([]byte, udpLen, udpLen+len(body))
	u := header.UDP(d)
	size := uint16(udpLen + len(body))
	u.Encode(&header.UDPFields{SrcPort: src.Port(), DstPort: dst.Port(), Length: size})
	sum := header.PseudoHeaderChecksum(protoUDP, tcpipAddr(h.src), tcpipAddr(h.dst), size)
	sum = checksum.Checksum(body, checksum.Checksum(d, sum))
	binary.BigEndian.PutUint16(d[udpChecksumOffset:], ^sum)
	return frameOf(r, h, append(d, body...))
}

func equal(a, b []uint16) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
