// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// servicePort is the port of the container's that is published.
const servicePort = 7777

// publish publishes a UDP socket that is bound to host, for both families where that
// is [::], and returns where it is.
func (r *rig) publish(host netip.AddrPort, in Inbound) netip.AddrPort {
	r.t.Helper()
	domain := unix.AF_INET
	if host.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(r.t, err)
	must(r.t, unix.Bind(fd, sockaddr(host)))
	sa, err := unix.Getsockname(fd)
	must(r.t, err)
	in.UDP, in.FD, in.Host = true, fd, netip.AddrPortFrom(host.Addr(), uint16(portOf(sa)))
	if in.ID == 0 {
		in.ID = 1
	}
	if in.Container.Port() == 0 {
		in.Container = netip.AddrPortFrom(in.Container.Addr(), servicePort)
	}
	r.net.Publish([]Inbound{in})
	r.on(func() {}) // adopted
	return in.Host
}

// port returns the published port 1.
func (r *rig) port() (p *udpPort) {
	r.on(func() { p = r.port1() })
	return p
}

// port1 is port for the loop itself.
func (r *rig) port1() *udpPort { return r.net.inbound.listeners[1].udp }

// serve opens the container's socket that is published.
func (r *rig) serve(v6 bool) *gonet.UDPConn {
	r.t.Helper()
	proto, local := ipv4.ProtocolNumber, r.plan.V4.Container
	if v6 {
		proto, local = ipv6.ProtocolNumber, r.plan.V6.Container
	}
	c, err := gonet.DialUDP(r.stack, &tcpip.FullAddress{NIC: nicID, Addr: tcpipAddr(local), Port: servicePort}, nil, proto)
	must(r.t, err)
	r.t.Cleanup(func() { c.Close() })
	return c
}

// client is a host's socket that is connected to addr.
func client(t testing.TB, addr netip.AddrPort) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestInboundUDPBothWays(t *testing.T) {
	r := newRig(t, options{mtu: 65520})
	any6 := r.publish(netip.MustParseAddrPort("[::]:0"), Inbound{})
	for family, f := range families(r) {
		server := r.serve(f.gateway.Is6())
		c, own := client(t, netip.AddrPortFrom(f.loopback, any6.Port()))
		for _, size := range []int{0, 1, 85, 86, 1400, 9000, 60000} {
			t.Run(family, func(t *testing.T) {
				want, buf := random(size), make([]byte, 1<<16)
				_, err := c.Write(want)
				must(t, err)
				n, from, err := server.ReadFrom(buf)
				must(t, err)
				if !bytes.Equal(buf[:n], want) {
					t.Fatalf("container got %d other bytes, want %d", n, size)
				}
				// What is on the host's loopback is behind the gateway.
				if got, want := netip.MustParseAddrPort(from.String()), netip.AddrPortFrom(f.gateway, own.Port()); got != want {
					t.Errorf("client appears as %v, want %v", got, want)
				}
				_, err = server.WriteTo(want, from)
				must(t, err)
				// The client's socket is connected: it hears only whom it has sent to.
				n, err = c.Read(buf)
				must(t, err)
				if !bytes.Equal(buf[:n], want) {
					t.Errorf("client got %d other bytes, want %d", n, size)
				}
			})
		}
	}
	for _, f := range r.net.Flows(context.Background()) {
		if f.Direction != DirectionIn || f.State != "open" || f.Proto != "udp" || f.Host.Port() != any6.Port() || !f.Host.Addr().IsLoopback() || f.BytesUp != f.BytesDown {
			t.Errorf("flow %+v", f)
		}
	}
}

// arrive is a datagram from a client, as the socket has it.
func (p *udpPort) arrive(from, to string, body string) {
	p.deliver([][]byte{[]byte(body)}, arrival{from: netip.MustParseAddrPort(from), to: netip.MustParseAddr(to)})
}

func TestInboundUDPClientAsSeen(t *testing.T) {
	r := newRig(t, options{raw: true})
	r.publish(netip.MustParseAddrPort("[::]:0"), Inbound{})
	r.publish(netip.MustParseAddrPort("[::1]:0"), Inbound{ID: 2, Container: netip.AddrPortFrom(r.plan.V4.Container, servicePort)})
	for _, tt := range []struct{ name, client, seen, container string }{
		{"IPv4", "198.51.100.1:4000", "198.51.100.1:4000", "10.0.2.100:7777"},
		{"IPv6", "[2001:db8::1]:4000", "[2001:db8::1]:4000", "[fd00::100]:7777"},
		{"loopback", "127.9.9.9:4000", "10.0.2.2:4000", "10.0.2.100:7777"},
		{"IPv6 loopback", "[::1]:4001", "[fd00::2]:4001", "[fd00::100]:7777"},
		{"of the container's network", "10.0.2.55:4002", "10.0.2.2:4002", "10.0.2.100:7777"},
		{"the container's", "10.0.2.100:4003", "10.0.2.2:4003", "10.0.2.100:7777"},
		{"the gateway's", "10.0.2.2:4004", "10.0.2.2:4004", "10.0.2.100:7777"},
		{"the resolver's", "[fd00::3]:4005", "[fd00::2]:4005", "[fd00::100]:7777"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := r.port()
			r.on(func() { p.arrive(tt.client, "192.0.2.1", "x") })
			r.wantFlow(t, tt.client, tt.seen, tt.container)
		})
	}
	t.Run("other family", func(t *testing.T) {
		r.on(func() { r.net.inbound.listeners[2].udp.arrive("[2001:db8::9]:4010", "2001:db8::2", "x") })
		r.wantFlow(t, "[2001:db8::9]:4010", "10.0.2.2:4010", "10.0.2.100:7777")
	})
	t.Run("port taken", func(t *testing.T) {
		p := r.port()
		r.on(func() { p.arrive("127.1.1.1:4000", "127.0.0.1", "x") })
		r.wantFlow(t, "127.1.1.1:4000", "10.0.2.2:1025", "10.0.2.100:7777")
	})
	// Where two ports lead to one place, a client of both is two.
	t.Run("client of two ports", func(t *testing.T) {
		r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{ID: 3})
		r.on(func() { r.net.inbound.listeners[3].udp.arrive("198.51.100.1:4000", "192.0.2.1", "y") })
		r.wantFlow(t, "198.51.100.1:4000", "10.0.2.2:1026", "10.0.2.100:7777")
	})
}

// wantFlow checks the datagram that the container gets.
func (r *rig) wantFlow(t *testing.T, client, seen, container string) {
	t.Helper()
	frame := r.next(isUDP)
	p, _ := parsePacket(frame[ethernetLen:], nil)
	u := header.UDP(p.l4)
	from, to := netip.AddrPortFrom(p.src, u.SourcePort()), netip.AddrPortFrom(p.dst, u.DestinationPort())
	if from.String() != seen || to.String() != container {
		t.Errorf("%s: datagram from %v to %v, want from %s to %s", client, from, to, seen, container)
	}
}

func isUDP(frame []byte) bool {
	p, ok := parsePacket(frame[ethernetLen:], nil)
	return ok && p.proto == protoUDP
}

func TestInboundUDPForgedClients(t *testing.T) {
	r := newRig(t, options{raw: true})
	r.publish(netip.MustParseAddrPort("[::]:0"), Inbound{})
	p := r.port()
	clients := []string{
		"198.51.100.1:0", "0.0.0.0:9", "[::]:9", "224.0.0.1:9", "[ff02::1]:9", "255.255.255.255:9",
		"169.254.169.254:80", "[fe80::1]:9",
	}
	for _, c := range clients {
		r.on(func() { p.arrive(c, "192.0.2.1", "x") })
	}
	if n := len(r.net.Flows(context.Background())); n != 0 {
		t.Errorf("%d flows, want none", n)
	}
	if n := r.counter("drop_client"); n != uint64(len(clients)) {
		t.Errorf("%d dropped, want %d", n, len(clients))
	}
}

// What the container sends to those who never sent goes its own way.
func TestInboundUDPAnswersOnlyClients(t *testing.T) {
	r := newRig(t, options{raw: true})
	host := r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	outside, addr := listenUDP(t, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	r.send(r.datagram(servicePort, addr, []byte("unasked")))
	_, from, err := outside.ReadFromUDPAddrPort(make([]byte, 16))
	must(t, err)
	if from == host {
		t.Errorf("it came from the published port")
	}
	for _, f := range r.net.Flows(context.Background()) {
		if f.Direction != DirectionOut {
			t.Errorf("flow %+v", f)
		}
	}
}

func TestInboundUDPJoinsDatagrams(t *testing.T) {
	r := newRig(t, options{})
	server := r.serve(false)
	var c *net.UDPConn
	sizes := []int{100, 100, 100, 40, 100, 300, 300, 0, 100}
	host := r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	c, _ = client(t, host)
	r.on(func() { // so that they wait for it together
		for i, n := range sizes {
			if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, n)); err != nil {
				t.Error(err)
			}
		}
	})
	buf := make([]byte, 2048)
	for i, n := range sizes {
		got, _, err := server.ReadFrom(buf)
		must(t, err)
		if !bytes.Equal(buf[:got], bytes.Repeat([]byte{byte(i)}, n)) {
			t.Fatalf("datagram %d: got %d bytes of %v, want %d", i, got, buf[:min(got, 1)], n)
		}
	}
	if n := r.counter("frames_out"); n >= uint64(len(sizes)) {
		t.Errorf("%d frames for %d datagrams, want fewer", n, len(sizes))
	}
}

// A flood of clients that get no answer takes the place of its like only.
func TestInboundUDPFlood(t *testing.T) {
	const limit = 64
	r := newRig(t, options{raw: true, cfg: func(c *Config) { c.MaxFlows = limit }})
	r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	p := r.port()
	good := netip.MustParseAddrPort("198.51.100.1:4000")
	r.on(func() {
		p.arrive(good.String(), "127.0.0.1", "x")
		q := r.udpPacket(servicePort, good, 1)
		r.net.udp.ingress(&q, 0, true)
		for i := range 100000 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i >> 16)}), uint16(i|1))
			p.deliver([][]byte{{1}}, arrival{from: from, to: netip.MustParseAddr("127.0.0.1")})
		}
		if n := len(r.net.inbound.udp.flows); n != 1+limit/unansweredShare || len(p.clients) != n {
			t.Errorf("%d flows and %d clients, want %d", n, len(p.clients), 1+limit/unansweredShare)
		}
		if p.clients[good] == nil {
			t.Error("the flow that was answered is gone")
		}
	})
}

// Answered flows are replaced, too, but only so many in a tick.
func TestInboundUDPReplacesTheOldest(t *testing.T) {
	r := newRig(t, options{raw: true, cfg: func(c *Config) { c.MaxFlows = 4 }})
	r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	p := r.port()
	round := func(port uint16) {
		from := netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), port)
		p.arrive(from.String(), "127.0.0.1", "x")
		q := r.udpPacket(servicePort, from, 1)
		r.net.udp.ingress(&q, 0, true)
	}
	ports := func() (got []uint16) {
		for _, f := range r.net.Flows(context.Background()) {
			got = append(got, f.Remote.Port())
		}
		return got
	}
	r.on(func() {
		for port := range uint16(9) {
			round(1000 + port)
		}
	})
	if got, want := ports(), []uint16{1006, 1007, 1008}; !equal(got, want) {
		t.Errorf("flows of ports %v, want %v", got, want)
	}
	r.on(func() {
		r.net.inbound.udp.replaced = maxEvictions
		round(2000)
		round(2001)
	})
	if got, want := ports(), []uint16{1006, 1007, 1008, 2001}; !equal(got, want) {
		t.Errorf("flows of ports %v, want %v", got, want)
	}
}

func TestInboundUDPTimers(t *testing.T) {
	r := newRig(t, options{raw: true})
	r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	p := r.port()
	good := netip.MustParseAddrPort("198.51.100.1:4000")
	r.on(func() {
		p.arrive(good.String(), "127.0.0.1", "x")
		p.arrive("198.51.100.2:4000", "127.0.0.1", "x")
		q := r.udpPacket(servicePort, good, 1)
		r.net.udp.ingress(&q, 0, true)
		for _, step := range []struct {
			idle time.Duration
			want int
		}{{unansweredIdle - time.Second, 2}, {unansweredIdle + time.Second, 1}, {udpIdle - time.Second, 1}, {udpIdle + time.Second, 0}} {
			r.net.start = time.Now().Add(-step.idle) // as if that time had passed
			for _, f := range p.clients {
				f.last = 0
			}
			r.net.expire()
			if got := len(p.clients); got != step.want {
				t.Errorf("%d flows after %v, want %d", got, step.idle, step.want)
			}
		}
	})
}

// An answer that the host's kernel could not deliver comes back as the error it was.
func TestInboundUDPClientGone(t *testing.T) {
	r := newRig(t, options{raw: true})
	host := r.publish(netip.MustParseAddrPort("[::]:0"), Inbound{})
	other := r.publish(netip.MustParseAddrPort("[::]:0"), Inbound{ID: 2, Container: netip.AddrPortFrom(r.plan.V4.Container, servicePort+1)})
	for name, tt := range map[string]struct {
		client  string
		host    netip.AddrPort
		gateway netip.Addr
		port    uint16
	}{
		"IPv4":         {"127.0.0.1", host, r.plan.V4.Gateway, servicePort},
		"IPv6":         {"::1", host, r.plan.V6.Gateway, servicePort},
		"other family": {"::1", other, r.plan.V4.Gateway, servicePort + 1},
	} {
		t.Run(name, func(t *testing.T) {
			c, own := client(t, netip.AddrPortFrom(netip.MustParseAddr(tt.client), tt.host.Port()))
			_, err := c.Write([]byte("hello"))
			must(t, err)
			r.next(isUDP)
			c.Close()
			seen := netip.AddrPortFrom(tt.gateway, own.Port())
			r.send(r.datagram(tt.port, seen, []byte("too late")))
			want := icmpTypes[portUnreachable].v4
			if seen.Addr().Is6() {
				want = icmpTypes[portUnreachable].v6
			}
			frame := r.next(func(frame []byte) bool {
				p, ok := parsePacket(frame[ethernetLen:], nil)
				return ok && (p.proto == protoICMPv4 || p.proto == protoICMPv6) && [2]uint8(p.l4) == want
			})
			p, _ := parsePacket(frame[ethernetLen:], nil)
			q, ok := parseQuoted(p.l4[icmpHeaderLen:])
			if !ok || p.src != tt.gateway || q.src != r.plan.Of(tt.gateway).Container || q.dst != tt.gateway ||
				binary.BigEndian.Uint16(q.l4) != tt.port || binary.BigEndian.Uint16(q.l4[2:]) != own.Port() {
				t.Errorf("error from %v quotes %+v", p.src, q)
			}
		})
	}
}

// refuse sends what the container's kernel says of a datagram to a port that nobody
// listens at.
func (r *rig) refuse(frame []byte) {
	p, _ := parsePacket(frame[ethernetLen:], nil)
	types, h := icmpTypes[portUnreachable].v4, ipHeader{src: p.dst, dst: p.src, proto: protoICMPv4, ttl: 64}
	if p.src.Is6() {
		types, h.proto = icmpTypes[portUnreachable].v6, protoICMPv6
	}
	msg := make([]byte, icmpHeaderLen, 128)
	msg[0], msg[1] = types[0], types[1]
	msg = append(msg, frame[ethernetLen:][:p.header+udpLen]...)
	putICMPChecksum(h, msg)
	r.send(frameOf(r, h, msg))
}

// When the container says that nobody listens, so does the host, for a moment.
func TestInboundUDPRefused(t *testing.T) {
	for name, tt := range map[string]struct{ bind, client string }{
		"IPv4":            {"127.0.0.1:0", "127.0.0.1"},
		"any IPv4":        {"0.0.0.0:0", "127.0.0.1"},
		"IPv6":            {"[::1]:0", "::1"},
		"both, from IPv4": {"[::]:0", "127.0.0.1"},
		"both, from IPv6": {"[::]:0", "::1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, options{raw: true})
			host := r.publish(netip.MustParseAddrPort(tt.bind), Inbound{})
			c, own := client(t, netip.AddrPortFrom(netip.MustParseAddr(tt.client), host.Port()))
			_, err := c.Write([]byte("anybody there?"))
			must(t, err)
			r.refuse(r.next(isUDP))
			r.settle()
			_, _ = c.Write([]byte("hello?")) // the error may be there before it returns
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("client reads: %v, want %v", err, unix.ECONNREFUSED)
			}
			// The port is not another's meanwhile.
			if l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(host)); err == nil {
				l.Close()
				t.Error("somebody else could have the port")
			}
			p := r.port()
			r.on(func() {
				r.net.start = r.net.start.Add(-deafFor)
				r.net.expire()
				if len(r.net.inbound.udp.deaf) != 0 || p.deaf.local != nil {
					t.Error("the port is still deaf")
				}
			})
			_, err = c.Write([]byte("again"))
			must(t, err)
			r.next(isUDP)
			r.send(r.datagram(servicePort, netip.AddrPortFrom(r.plan.Of(own.Addr()).Gateway, own.Port()), []byte("yes")))
			b := make([]byte, 16)
			if n, err := c.Read(b); err != nil || string(b[:n]) != "yes" {
				t.Errorf("client reads %q, %v", b[:n], err)
			}
		})
	}
}

// A port whose service answered just now does not go deaf.
func TestInboundUDPRefusedBesideAnswers(t *testing.T) {
	r := newRig(t, options{raw: true})
	r.publish(netip.MustParseAddrPort("[::]:0"), Inbound{})
	p := r.port()
	r.on(func() {
		p.arrive("198.51.100.1:4000", "127.0.0.1", "x")
		q := r.udpPacket(servicePort, netip.MustParseAddrPort("198.51.100.1:4000"), 1)
		r.net.udp.ingress(&q, 0, true)
		p.arrive("[2001:db8::1]:4000", "::1", "x")
		p.clients[netip.MustParseAddrPort("[2001:db8::1]:4000")].refused()
		if p.deaf.local != nil {
			t.Error("the port is deaf to all")
		}
		if len(p.clients) != 1 {
			t.Errorf("%d clients, want 1", len(p.clients))
		}
		p.heard -= lately
		p.arrive("[2001:db8::1]:4000", "::1", "x")
		p.clients[netip.MustParseAddrPort("[2001:db8::1]:4000")].refused()
		if p.deaf.local == nil {
			t.Error("the port hears although nobody answers")
		}
		// An answer shows that somebody is there.
		r.net.udp.ingress(&q, 0, true)
		if p.deaf.local != nil {
			t.Error("the port is deaf although the container answers")
		}
	})
}

func TestInboundUDPWithdrawn(t *testing.T) {
	r := newRig(t, options{raw: true})
	host := r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	c, own := client(t, host)
	_, err := c.Write([]byte("hello"))
	must(t, err)
	r.next(isUDP)
	r.on(func() {
		q := r.udpPacket(servicePort, netip.AddrPortFrom(r.plan.V4.Gateway, own.Port()), 3)
		r.net.udp.ingress(&q, 0, true) // still to be sent when the port goes
	})
	r.net.Withdraw(t.Context(), []int{1, 99}, false)
	if n, err := c.Read(make([]byte, 16)); n != 3 || err != nil {
		t.Errorf("what the container had said: %d bytes, %v", n, err)
	}
	if fs := r.net.Flows(context.Background()); len(fs) != 0 {
		t.Errorf("flows of a port that is gone: %+v", fs)
	}
	_, _ = c.Write([]byte("still there?"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("client reads: %v, want %v", err, unix.ECONNREFUSED)
	}
	r.publish(host, Inbound{})
}

func TestInboundUDPImpossible(t *testing.T) {
	r := newRig(t, options{raw: true})
	r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{Loopback: true})
	eventually(func() bool { return strings.Contains(r.log.String(), "loopback address cannot be published") })
	r.on(func() {
		if len(r.net.inbound.listeners) != 0 {
			t.Error("it is served")
		}
	})
}

func FuzzParseRecvCmsgs(f *testing.F) {
	c := cmsgs{b: make([]byte, 256)}
	c.source(&outlet{source: netip.MustParseAddr("192.0.2.1"), ttl: 9})
	c.source(&outlet{source: netip.MustParseAddr("2001:db8::1"), ttl: 9, ifindex: 3})
	c.int(unix.SOL_UDP, unix.UDP_GRO, 1400)
	f.Add(c.b[:c.n])
	f.Fuzz(func(t *testing.T, b []byte) {
		a := parseRecvCmsgs(b)
		if a.to.IsValid() && a.to.Is4In6() {
			t.Errorf("%v is not an address of its family", a.to)
		}
	})
}

// What is written as control messages is read as the same.
func TestCmsgs(t *testing.T) {
	for _, s := range []string{"192.0.2.1", "fe80::1"} {
		c := cmsgs{b: make([]byte, sendCmsgLen)}
		want := netip.MustParseAddr(s)
		c.source(&outlet{source: want, ttl: 9, tos: 0xff, ifindex: 3})
		c.segment(1400)
		a := parseRecvCmsgs(c.b[:c.n])
		if a.to != want || a.ttl != 9 || a.ifindex != 3*uint32(want.BitLen()/128) {
			t.Errorf("read %+v", a)
		}
	}
}
