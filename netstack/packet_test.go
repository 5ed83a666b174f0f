// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/tap"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestParsePacketRefuses(t *testing.T) {
	v4 := make([]byte, 40)
	putIPv4(v4, ipHeader{src: netip.MustParseAddr("10.0.2.100"), dst: netip.MustParseAddr("10.0.2.2"), proto: protoUDP, ttl: 1}, 20, 1)
	v6 := make([]byte, 60)
	putIPv6(v6, ipHeader{src: netip.MustParseAddr("fd00::100"), dst: netip.MustParseAddr("fd00::2"), proto: protoUDP, ttl: 1}, 20)
	for _, c := range []struct {
		name   string
		base   []byte
		change func(b []byte) []byte
		ok     bool
	}{
		{"v4 OK", v4, func(b []byte) []byte { return b }, true},
		{"v6 OK", v6, func(b []byte) []byte { return b }, true},
		{"empty", v4, func(b []byte) []byte { return nil }, false},
		{"version 5", v4, func(b []byte) []byte { b[0] = 0x55; return b }, false},
		{"v4 short", v4, func(b []byte) []byte { return b[:19] }, false},
		{"v4 header length 16", v4, func(b []byte) []byte { b[0] = 0x44; return b }, false},
		{"v4 header beyond packet", v4, func(b []byte) []byte { b[0] = 0x4f; return b }, false},
		{"v4 total beyond frame", v4, func(b []byte) []byte { b[3]++; return b }, false},
		{"v4 checksum", v4, func(b []byte) []byte { b[10]++; return b }, false},
		{"v6 short", v6, func(b []byte) []byte { return b[:39] }, false},
		{"v6 length beyond frame", v6, func(b []byte) []byte { b[5]++; return b }, false},
		{"v6 extension beyond frame", v6, func(b []byte) []byte { b[6] = extHopByHop; b[41] = 200; return b }, false},
		{"v6 extensions without end", v6, func(b []byte) []byte {
			b[6] = extHopByHop
			return append(b[:40], make([]byte, 20)...)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.change(append([]byte(nil), c.base...))
			if _, ok := parsePacket(b, nil); ok != c.ok {
				t.Errorf("parsePacket says %v, want %v", ok, c.ok)
			}
		})
	}
}

// FuzzParsePacket looks for inputs that make the parser read beyond the packet,
// or find something in the second part that it does not have.
func FuzzParsePacket(f *testing.F) {
	v4 := make([]byte, 28)
	putIPv4(v4, ipHeader{src: netip.MustParseAddr("10.0.2.100"), dst: netip.MustParseAddr("10.0.2.2"), proto: protoUDP, ttl: 1}, 8, 1)
	f.Add(v4, []byte{}) // a UDP header
	v6 := make([]byte, 56)
	putIPv6(v6, ipHeader{src: netip.MustParseAddr("fd00::100"), dst: netip.MustParseAddr("fd00::2"), proto: extFragment, ttl: 1}, 16)
	v6[40] = protoUDP
	f.Add(v6, []byte{}) // a fragment header
	f.Fuzz(func(t *testing.T, head, rest []byte) {
		p, ok := parsePacket(head, rest)
		if !ok {
			return
		}
		if p.len() > len(head)+len(rest) {
			t.Fatalf("%d bytes of payload in a packet of %d", p.len(), len(head)+len(rest))
		}
		if len(p.rest) > 0 && !bytes.HasPrefix(rest, p.rest) {
			t.Fatal("the rest is not the frame's")
		}
		if !p.src.IsValid() || !p.dst.IsValid() {
			t.Fatal("no addresses")
		}
	})
}

// FuzzFrames sends frames to a whole Network: whatever they are, it goes on.
func FuzzFrames(f *testing.F) {
	r := newRig(f, options{raw: true, cfg: func(c *Config) { c.MaxFlows = 8 }})
	gateway := netip.AddrPortFrom(r.plan.V4.Gateway, 9)
	f.Add(uint8(0), uint16(0), r.datagram(1, gateway, []byte("x")))
	f.Add(uint8(tap.VNetGSOUDPL4), uint16(1), r.datagram(1, gateway, []byte("xyz")))
	f.Add(uint8(tap.VNetGSOTCPv4), uint16(0), r.echo(r.plan.V6.Gateway, 64, 1, 1, 3))
	f.Fuzz(func(t *testing.T, gso uint8, size uint16, frame []byte) {
		if len(frame) == 0 {
			return
		}
		vh := tap.VNetHdr{Flags: tap.VNetNeedsCSum, GSOType: gso, GSOSize: size}
		r.link.write(&vh, [][]byte{frame})
		r.settle()
		if n := len(r.net.Flows(context.Background())); n > 24 {
			t.Fatalf("%d flows", n)
		}
	})
}

func TestHostileFramesAreCounted(t *testing.T) {
	r := newRig(t, options{raw: true})
	gateway := netip.AddrPortFrom(r.plan.V4.Gateway, 9)
	spoof := func(src string) []byte {
		b := r.datagram(1, gateway, nil)
		ip := header.IPv4(b[ethernetLen:])
		ip.SetSourceAddress(tcpipAddr(netip.MustParseAddr(src)))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		return b
	}
	short := r.datagram(1, gateway, nil)
	binary.BigEndian.PutUint16(short[ethernetLen+ipv4MinLen+4:], 7)
	other := r.datagram(1, gateway, nil)
	other[12] = 0x88
	for _, c := range []struct {
		name    string
		frame   []byte
		counter string
	}{
		{"one byte", []byte{1}, "drop_malformed"},
		{"no payload", r.datagram(1, gateway, nil)[:ethernetLen], "drop_malformed"},
		{"UDP length 7", short, "drop_malformed"},
		{"ethertype", other, "drop_protocol"},
		{"from loopback", spoof("127.0.0.1"), "drop_spoofed"},
		{"from the gateway", spoof("10.0.2.2"), "drop_spoofed"},
		{"from multicast", spoof("224.0.0.1"), "drop_spoofed"},
		{"from broadcast", spoof("255.255.255.255"), "drop_spoofed"},
		{"SYN cut off", frameOf(r, ipHeader{src: r.plan.V4.Container, dst: gateway.Addr(), proto: protoTCP, ttl: 64}, make([]byte, 19)), "drop_malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := r.counter(c.counter)
			r.send(c.frame)
			r.settle()
			if got := r.counter(c.counter) - before; got != 1 {
				t.Errorf("%s grew by %d, want 1", c.counter, got)
			}
		})
	}
}
