// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"

	"github.com/slipway-net/slipway/netstack/policy"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// echo makes a frame with an echo request from the container.
func (r *rig) echo(dst netip.Addr, ttl uint8, id, seq uint16, size int) []byte {
	h := ipHeader{src: r.plan.Of(dst).Container, dst: dst, proto: protoICMPv4, ttl: ttl}
	msg := append(make([]byte, icmpHeaderLen), random(size)...)
	msg[0] = echoRequest4
	if dst.Is6() {
		h.proto, msg[0] = protoICMPv6, echoRequest6
	}
	binary.BigEndian.PutUint16(msg[4:], id)
	binary.BigEndian.PutUint16(msg[6:], seq)
	putICMPChecksum(h, msg)
	return frameOf(r, h, msg)
}

// nextICMP waits for an ICMP message of a kind.
func (r *rig) nextICMP(v4, v6 uint8) packet {
	var got packet
	r.next(func(frame []byte) bool {
		p, ok := parsePacket(frame[ethernetLen:], nil)
		got = p
		return ok && (p.proto == protoICMPv4 && p.l4[0] == v4 || p.proto == protoICMPv6 && p.l4[0] == v6)
	})
	return got
}

func TestPingOfOurOwnAddresses(t *testing.T) {
	r := newRig(t, options{raw: true})
	for family, f := range families(r) {
		for _, dst := range []netip.Addr{f.gateway, f.dns} {
			for _, size := range []int{0, 56, 1400} {
				t.Run(family, func(t *testing.T) {
					r.send(r.echo(dst, 64, 9, uint16(size), size))
					p := r.nextICMP(echoReply4, echoReply6)
					if p.src != dst || len(p.l4) != icmpHeaderLen+size || !icmpChecksumValid(&p, p.l4) ||
						binary.BigEndian.Uint16(p.l4[4:]) != 9 || binary.BigEndian.Uint16(p.l4[6:]) != uint16(size) {
						t.Errorf("bad reply from %v: %v", p.src, p.l4[:icmpHeaderLen])
					}
				})
			}
		}
	}
}

// A gateway that is a router of the host's network is asked, and here refused; it answers
// as ours where it leads to the host's loopback.
func TestPingOfSharedGateway(t *testing.T) {
	for _, mapped := range []bool{false, true} {
		r := newRig(t, options{raw: true, cfg: func(c *Config) {
			c.Plan.V4.Shared, c.Plan.V6.Shared = true, true
			var rules policy.Config
			for _, f := range c.Plan.Families() {
				rules.Rules = append(rules.Rules, policy.Rule{Action: policy.Deny, Prefix: netip.PrefixFrom(f.Gateway, f.Gateway.BitLen())})
				if mapped {
					rules.HostLoopback = append(rules.HostLoopback, policy.LoopbackAt{Addr: f.Gateway})
				}
			}
			rules.Plan = c.Plan
			var err error
			c.Policy, err = policy.New(rules)
			must(t, err)
		}})
		for family, f := range families(r) {
			r.send(r.echo(f.gateway, 64, 9, 1, 56))
			kinds := map[bool][2]uint8{false: {unreachKindv4, unreachKindv6}, true: {echoReply4, echoReply6}}[mapped]
			if p := r.nextICMP(kinds[0], kinds[1]); p.src != f.gateway {
				t.Errorf("%s, mapped %v: answered by %v", family, mapped, p.src)
			}
		}
	}
}

// The one address of this machine that the policy allows and that surely answers
// is one of its own.
func TestPingThroughTheHost(t *testing.T) {
	needPingSockets(t)
	r := newRig(t, options{raw: true})
	for family, f := range families(r) {
		t.Run(family, func(t *testing.T) {
			// Pings to the gateway we answer ourselves; one to loopback, which no policy
			// allows, is answered by this machine.
			dst := f.gateway
			r.net.loop.Post(func() {
				h := ipHeader{src: r.plan.Of(dst).Container, dst: dst, ttl: 64, proto: protoICMPv4}
				frame := r.echo(dst, 64, 1234, 1, 40)
				p, ok := parsePacket(frame[ethernetLen:], nil)
				if !ok {
					t.Errorf("bad frame %v", h)
				}
				key := netip.AddrPortFrom(p.src, 1234)
				fl := r.net.ping.open(key, netip.AddrPortFrom(dst, 0), netip.AddrPortFrom(f.loopback, 0))
				if fl != nil {
					fl.send(&p, p.l4)
				}
			})
			p := r.nextICMP(echoReply4, echoReply6)
			if p.src != f.gateway || binary.BigEndian.Uint16(p.l4[4:]) != 1234 || !icmpChecksumValid(&p, p.l4) {
				t.Errorf("bad reply from %v: %v", p.src, p.l4[:icmpHeaderLen])
			}
		})
	}
}

func TestHopLimitOneEndsHere(t *testing.T) {
	r := newRig(t, options{raw: true})
	syn := make([]byte, header.TCPMinimumSize)
	header.TCP(syn).Encode(&header.TCPFields{SrcPort: 1, DstPort: 80, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn})
	for _, dst := range []string{"192.0.2.1", "2001:db8::1"} {
		a := netip.MustParseAddr(dst)
		h := ipHeader{src: r.plan.Of(a).Container, dst: a, proto: protoTCP, ttl: 1}
		datagram := r.datagram(1, netip.AddrPortFrom(a, 33434), nil)
		if a.Is4() {
			ip := header.IPv4(datagram[ethernetLen:])
			ip.SetTTL(1)
			ip.SetChecksum(0)
			ip.SetChecksum(^ip.CalculateChecksum())
		} else {
			header.IPv6(datagram[ethernetLen:]).SetHopLimit(1)
		}
		for name, frame := range map[string][]byte{
			"ICMP": r.echo(a, 1, 1, 1, 0), "UDP": datagram, "TCP": frameOf(r, h, syn),
		} {
			t.Run(name+"/"+dst, func(t *testing.T) {
				r.send(frame)
				p := r.nextICMP(icmpTypes[ttlExceeded].v4[0], icmpTypes[ttlExceeded].v6[0])
				if want := r.plan.Of(a).Gateway; p.src != want {
					t.Errorf("time exceeded from %v, want %v", p.src, want)
				}
			})
		}
	}
	if flows := r.net.Flows(t.Context()); len(flows) != 0 {
		t.Errorf("flows were opened: %v", flows)
	}
}

// needPingSockets skips the test where net.ipv4.ping_group_range forbids this
// user ping sockets.
func needPingSockets(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err == nil {
		unix.Close(fd)
		return
	}
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ping_group_range")
	if os.Getenv("CI") == "true" {
		t.Fatalf("no ping sockets: %v; ping_group_range is %s", err, b)
	}
	t.Skipf("no ping sockets: %v; ping_group_range is %s", err, b)
}
