// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/sockaddr"
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
	must(r.t, unix.Bind(fd, sockaddr.Of(host)))
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
		r.wantFlow(t, "127.1.1.1:4000", "10.0.2.2:1024", "10.0.2.100:7777")
	})
	// Where two ports lead to one place, a client of both is two.
	t.Run("client of two ports", func(t *testing.T) {
		r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{ID: 3})
		r.on(func() { r.net.inbound.listeners[3].udp.arrive("198.51.100.1:4000", "192.0.2.1", "y") })
		r.wantFlow(t, "198.51.100.1:4000", "10.0.2.2:1025", "10.0.2.100:7777")
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
	eventually(func() bool { return strings.Contains(r.log.String(), "loopback is out of reach") })
	r.on(func() {
		if len(r.net.inbound.listeners) != 0 {
			t.Error("it is served")
		}
	})
}
