// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
)

// loopback6Service listens at ::1.
func loopback6Service(t testing.TB) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// refuseAtLoopback6 waits until a client of the service at the container's ::1 is known as
// the nth of the inlet's, and has the container's kernel say that nobody listens there.
func (r *rig) refuseAtLoopback6(port uint16, nth int) {
	r.t.Helper()
	service := netip.AddrPortFrom(netip.IPv6Loopback(), port)
	var client netip.AddrPort
	eventually(func() bool {
		r.on(func() {
			in := &r.net.inbound.inlets[1]
			client = netip.AddrPortFrom(in.first, in.port)
			for range nth - 1 {
				client = netip.AddrPortFrom(client.Addr().Next(), in.port)
			}
		})
		for _, f := range r.net.Flows(context.Background()) {
			if f.Container == service && f.Remote == client {
				return true
			}
		}
		return false
	})
	r.refuse(r.datagramFrom(client, service, nil))
}

// A service at ::1 only gets what a client has sent first. Its answers come by the tap,
// as the container's kernel sends them.
func TestInboundLoopbackUDP6(t *testing.T) {
	r := loopbackRig(t, nil)
	service, at := loopback6Service(t)
	host := r.publishLoopback(1, "[::]:0", at)
	seen := make(map[netip.AddrPort]bool)
	for i, addr := range []string{"127.0.0.1", "::1", "127.0.0.1"} {
		c, _ := client(t, netip.AddrPortFrom(netip.MustParseAddr(addr), host.Port()))
		for j := range 3 {
			want := fmt.Sprint("hello ", i, j)
			_, err := fmt.Fprint(c, want)
			must(t, err)
			got, from := hear(t, service)
			if string(got) != want {
				t.Errorf("the service got %q, want %q", got, want)
			}
			if !nobodys().Contains(from.Addr()) || j == 0 && seen[from] || j > 0 && !seen[from] {
				t.Errorf("client %d appears as %v, want an address of its own out of %v", i, from, nobodys())
			}
			seen[from] = true
			r.send(r.datagramFrom(at, from, []byte("answer to "+want)))
			if got, _ := hear(t, c); string(got) != "answer to "+want {
				t.Errorf("the client got %q", got)
			}
		}
	}
	// Only the first had to find out.
	if n := r.counter("flows_udp_in"); n != 4 {
		t.Errorf("%d flows were opened, want 4", n)
	}
	for _, f := range r.net.Flows(context.Background()) {
		if f.Path != PathLoopback || f.State != "open" || f.Container != at || !seen[f.Remote] {
			t.Errorf("flow %+v", f)
		}
	}
}

// Frames from the container's loopback that answer no client are dropped.
func TestInboundLoopbackUDP6Forged(t *testing.T) {
	r := loopbackRig(t, nil)
	service, at := loopback6Service(t)
	outside, to := listenUDP(t, netip.IPv6Loopback(), r.plan.V6.Gateway)
	before := netip.AddrPortFrom(nobodys().Addr().Next(), 1)
	r.send(r.datagramFrom(at, before, []byte("nothing is published")))
	c, _ := client(t, r.publishLoopback(1, "127.0.0.1:0", at))
	_, err := c.Write([]byte("hello"))
	must(t, err)
	_, from := hear(t, service)
	other := netip.AddrPortFrom(at.Addr(), at.Port()^1)
	frames := [][]byte{
		r.datagramFrom(other, from, []byte("another port")),
		r.datagramFrom(at, netip.AddrPortFrom(from.Addr().Next(), from.Port()), []byte("no client")),
		r.datagramFrom(at, to, []byte("out into the world")),
		r.datagramFrom(netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("10.0.2.2:53"), []byte("IPv4")),
		frameOf(r, ipHeader{src: at.Addr(), dst: from.Addr(), proto: protoICMPv6, ttl: 64}, []byte{echoRequest6, 0, 0, 0, 0, 0, 0, 0}),
		frameOf(r, ipHeader{src: at.Addr(), dst: from.Addr(), proto: protoTCP, ttl: 64}, make([]byte, 20)),
	}
	for _, f := range frames {
		r.send(f)
	}
	eventually(func() bool { return r.counter("drop_spoofed") == 1+uint64(len(frames)) })
	r.send(r.datagramFrom(at, from, []byte("answer")))
	if got, _ := hear(t, c); string(got) != "answer" {
		t.Errorf("the client got %q", got)
	}
	if n := len(r.net.Flows(context.Background())); n != 1 {
		t.Errorf("%d flows, want the client's", n)
	}
	outside.Close()
}

// Without IPv6 in the container's network there is no way back from ::1.
func TestInboundLoopbackUDP6None(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no IPv6 in the plan": func(c *Config) {
			c.Plan.V6 = tap.Family{}
			rules, err := policy.New(policy.Config{Plan: c.Plan})
			must(t, err)
			c.Policy = rules
		},
		"no IPv6 socket": func(c *Config) { c.Loopback.v6.fd = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := loopbackRig(t, change)
			gone, nobody := loopbackService(t)
			gone.Close()
			c, _ := client(t, r.publishLoopback(1, "127.0.0.1:0", nobody))
			_, err := c.Write([]byte("anybody there?"))
			must(t, err)
			p := r.port()
			eventually(func() (deaf bool) {
				r.on(func() { deaf = p.deaf.local != nil })
				return deaf
			})
		})
	}
}
