// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

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
