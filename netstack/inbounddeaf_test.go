// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
			r.refuse(r.next(isUDP)) // of the other family
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

// refuse has nobody listen where the client's datagrams go, at either family.
func (p *udpPort) refuse(client string) {
	from := netip.MustParseAddrPort(client)
	for f := p.clients[from]; f != nil; f = p.clients[from] {
		f.refused()
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
		p.refuse("[2001:db8::1]:4000")
		if p.deaf.local != nil {
			t.Error("the port is deaf to all")
		}
		if len(p.clients) != 1 {
			t.Errorf("%d clients, want 1", len(p.clients))
		}
		p.heard[0] -= lately
		p.arrive("[2001:db8::1]:4000", "::1", "x")
		p.refuse("[2001:db8::1]:4000")
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

// A client that the container's firewall rejects does not keep out the others, although
// the service never answers.
func TestInboundUDPRejectedClient(t *testing.T) {
	bad, good := netip.MustParseAddrPort("198.51.100.66:4000"), netip.MustParseAddrPort("198.51.100.1:4000")
	r := newRig(t, options{raw: true})
	r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	p := r.port()
	later := func(d time.Duration) {
		r.net.start = r.net.start.Add(-d)
		r.net.expire()
	}
	rejected := func(client netip.AddrPort) {
		p.arrive(client.String(), "127.0.0.1", "x")
		p.refuse(client.String())
	}
	r.on(func() {
		rejected(bad)
		if p.deaf.local == nil {
			t.Fatal("the port hears, although nobody seems to be there")
		}
		later(deafFor)
		for range 10 {
			rejected(bad)
		}
		if p.deaf.local != nil {
			t.Error("the port is deaf again before others could get in")
		}
		p.arrive(good.String(), "127.0.0.1", "to a service that does not answer")
		later(hearFor)
		rejected(bad)
		if p.deaf.local != nil {
			t.Error("the port is deaf, although another client is heeded")
		}
		// When nobody is there any more, everybody is told.
		later(lately)
		rejected(good)
		if p.deaf.local == nil {
			t.Error("the port hears, although nobody is there")
		}
	})
}
