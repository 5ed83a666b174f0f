// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

// A service that listens at one family only has clients of both: nothing that the first
// has sent is lost, and those who come later go there at once. When it moves they follow.
func TestInboundUDPOtherFamily(t *testing.T) {
	for name, tt := range map[string]struct{ client, lacking, gateway string }{
		"IPv4 client": {"127.0.0.1", "10.0.2.100", "fd00::2"},
		"IPv6 client": {"::1", "fd00::100", "10.0.2.2"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, options{raw: true})
			host := r.publish(netip.MustParseAddrPort("[::]:0"), Inbound{})
			lacking := netip.MustParseAddr(tt.lacking)
			served := r.plan.Of(netip.MustParseAddr(tt.gateway)).Container
			for i := range 2 {
				c, own := client(t, netip.AddrPortFrom(netip.MustParseAddr(tt.client), host.Port()))
				_, err := c.Write([]byte("hello"))
				must(t, err)
				if i == 0 {
					frame := r.next(isUDP)
					if p, _ := parsePacket(frame[ethernetLen:], nil); p.dst != lacking {
						t.Fatalf("it is sent to %v first, want %v", p.dst, lacking)
					}
					r.refuse(frame)
				}
				p, _ := parsePacket(r.next(isUDP)[ethernetLen:], nil)
				if p.dst != served || p.src.String() != tt.gateway || !bytes.Equal(p.l4[udpLen:], []byte("hello")) {
					t.Fatalf("client %d: %q from %v to %v, want %q to %v", i, p.l4[udpLen:], p.src, p.dst, "hello", served)
				}
				r.send(r.datagram(servicePort, netip.AddrPortFrom(p.src, own.Port()), []byte("answer")))
				if got, _ := hear(t, c); string(got) != "answer" {
					t.Errorf("client %d got %q", i, got)
				}
			}
			// The service is another now.
			p := r.port()
			r.on(func() { p.heard = [2]time.Duration{-lately, -lately} })
			c, _ := client(t, netip.AddrPortFrom(netip.MustParseAddr(tt.client), host.Port()))
			_, err := c.Write([]byte("moved?"))
			must(t, err)
			r.refuse(r.next(isUDP))
			if p, _ := parsePacket(r.next(isUDP)[ethernetLen:], nil); p.dst != lacking {
				t.Errorf("it is sent to %v, want %v", p.dst, lacking)
			}
			r.on(func() {
				if p.turned != [2]bool{} {
					t.Error("new clients still go where nobody listens")
				}
			})
		})
	}
}

// That the container rejects one client turns no others away from a service that answers.
func TestInboundUDPOtherFamilyBesideAnswers(t *testing.T) {
	r := newRig(t, options{raw: true})
	r.publish(netip.MustParseAddrPort("[::]:0"), Inbound{})
	p := r.port()
	r.on(func() {
		p.arrive("198.51.100.1:4000", "127.0.0.1", "x")
		q := r.udpPacket(servicePort, netip.MustParseAddrPort("198.51.100.1:4000"), 1)
		r.net.udp.ingress(&q, 0, true)
		p.arrive("198.51.100.66:4000", "127.0.0.1", "x")
		bad := netip.MustParseAddrPort("198.51.100.66:4000")
		p.clients[bad].refused()
		if f := p.clients[bad]; f == nil || f.container.Addr() != r.plan.V6.Container {
			t.Errorf("the rejected client's flow is %+v, want one to the other family", f)
		}
		if to := p.end(bad.Addr()); to.Addr() != r.plan.V4.Container {
			t.Errorf("new clients go to %v", to)
		}
	})
}

// Where the rule says which address of the container's it is, that is it.
func TestInboundUDPNoOtherFamily(t *testing.T) {
	r := newRig(t, options{raw: true})
	r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{Container: netip.AddrPortFrom(r.plan.V4.Container, servicePort)})
	p := r.port()
	r.on(func() {
		p.arrive("198.51.100.1:4000", "127.0.0.1", "x")
		p.clients[netip.MustParseAddrPort("198.51.100.1:4000")].refused()
		if len(p.clients) != 0 || p.deaf.local == nil {
			t.Errorf("%d clients, want none and a deaf port", len(p.clients))
		}
	})
}

// What clients have sent first is kept of the last few only, and only what is small.
func TestInboundUDPKept(t *testing.T) {
	r := newRig(t, options{raw: true})
	r.publish(netip.MustParseAddrPort("127.0.0.1:0"), Inbound{})
	p := r.port()
	small, large := make([]byte, keptSize), make([]byte, keptSize+1)
	r.on(func() {
		from := netip.MustParseAddrPort("198.51.100.1:1000")
		send := func(body []byte) {
			from = netip.AddrPortFrom(from.Addr(), from.Port()+1)
			p.deliver([][]byte{body[:1], body[1:]}, arrival{from: from, to: netip.MustParseAddr("127.0.0.1")})
		}
		kept := func() (n int) {
			for _, k := range p.n.inbound.udp.kept.ring {
				if f := p.clients[from]; f != nil && k.flow == f && bytes.Equal(k.body, small) {
					n++
				}
			}
			return n
		}
		send(large)
		if kept() != 0 {
			t.Error("a large one is kept")
		}
		for range 3 * keptClients {
			if send(small); kept() != 1 {
				t.Fatal("it is not kept")
			}
		}
	})
}
