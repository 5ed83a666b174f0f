// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"errors"
	"io"
	"net/netip"
	"strconv"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// What is masqueraded: what comes from behind the bridge, as Docker has it, or all
// that leaves.
const (
	masqueradeInner = "ip saddr 172.30.0.0/24 oifname tap0 masquerade; ip6 saddr fd30::/64 oifname tap0 masquerade"
	masqueradeAll   = "oifname tap0 masquerade"
)

// bridged makes a bridge in the container, with masquerading, and returns a
// container behind it.
func (r *rig) bridged(t testing.TB, masquerade string) *attachtest.Place {
	t.Helper()
	attachtest.NeedTools(t, "nft")
	inner := r.c.Split(t)
	r.c.Exec(t, "sh", "-ec", `
ip link add br0 type bridge
ip addr add 172.30.0.1/24 dev br0
ip addr add fd30::1/64 dev br0 nodad
ip link set br0 up
ip link add veth0 type veth peer name eth0 netns `+strconv.Itoa(inner.PID())+`
ip link set veth0 master br0 up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
`)
	r.c.Exec(t, "nft", "table inet nat { chain post { type nat hook postrouting priority 100; "+masquerade+"; }; }")
	inner.Exec(t, "sh", "-ec", `
ip link set lo up
ip addr add 172.30.0.2/24 dev eth0
ip addr add fd30::2/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 172.30.0.1
ip -6 route add default via fd30::1
`)
	return inner
}

// TestSpliceBridge has containers in the container.
func TestSpliceBridge(t *testing.T) {
	r := spliced(t)
	outer := r.c
	inner := r.bridged(t, masqueradeInner)
	families(t, func(t *testing.T, f attachtest.Family) {
		for name, place := range map[string]*attachtest.Place{"inner": inner, "outer": outer} {
			t.Run(name, func(t *testing.T) {
				from := netip.AddrPortFrom(map[bool]netip.Addr{
					false: netip.MustParseAddr("172.30.0.2"), true: netip.MustParseAddr("fd30::2"),
				}[f.Is6()], 0)
				old, oldPath := r.c, r.path
				r.c, r.path = place, ""
				defer func() { r.c, r.path = old, oldPath }()
				// The first ones make the rules for the others.
				attachtest.Eventually(t, "forwarded flows are spliced", func() bool {
					p := r.connect(t, f)
					defer r.noFlows(t)
					defer func() { check(t, p.container.Close(), p.peer.Close()) }()
					flows := r.flows(t)
					return len(flows) == 1 && flows[0].Path == netstack.PathSpliced
				})
				for range 20 {
					p := r.connect(t, f)
					if name == "inner" && tcpAddr(p.container.LocalAddr()).Addr() != from.Addr() {
						t.Errorf("the container is %s, want %s", p.container.LocalAddr(), from.Addr())
					}
					if got := tcpAddr(p.container.RemoteAddr()); got != tcpAddr(p.peer.LocalAddr()) {
						t.Errorf("the container is connected to %s, want %s", got, p.peer.LocalAddr())
					}
					flows := r.flows(t)
					attachtest.Eventually(t, "the flow is open", func() bool { flows = r.flows(t); return len(flows) == 1 && flows[0].State == "open" })
					if flows[0].Path != netstack.PathSpliced || flows[0].Container.Addr() != r.family(f).Container {
						t.Errorf("not spliced: %+v", flows[0])
					}
					exchange(t, p.container, p.peer)
					exchange(t, p.peer, p.container)
					r.noFlows(t)
				}
				p := r.connect(t, f)
				check(t, p.container.SetLinger(0), p.container.Close())
				if _, err := p.peer.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("the peer reads %v, want %v", err, unix.ECONNRESET)
				}
				p = r.connect(t, f)
				check(t, p.peer.SetLinger(0), p.peer.Close())
				if _, err := p.container.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("the container reads %v, want %v", err, unix.ECONNRESET)
				}
				r.noFlows(t)
			})
		}
	})
	if r.logged(saysStacked) > 0 {
		t.Error("the path was given up")
	}
}

// TestSpliceBridgeErrors compares errors behind a bridge with the host's.
func TestSpliceBridgeErrors(t *testing.T) {
	r := spliced(t)
	r.hurryNeighbours(t)
	inner := r.bridged(t, masqueradeInner)
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		dst := tcpAddr(l.Addr())
		l.Close()
		if _, err := inner.Dial(t, "tcp", dst); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("connect: %v, want %v", err, unix.ECONNREFUSED)
		}
		if _, err := inner.Dial(t, "tcp", netip.AddrPortFrom(f.Nobody, 4000)); !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("connect: %v, want %v", err, unix.EHOSTUNREACH)
		}
	})
}

// TestSpliceBridgePorts has an inner container and the outer one use the same
// source port to the same destination: masquerading finds another for one.
func TestSpliceBridgePorts(t *testing.T) { testBridgePorts(t, masqueradeInner) }

func testBridgePorts(t *testing.T, masquerade string) {
	r := spliced(t)
	inner := r.bridged(t, masquerade)
	outer := r.c
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		innerAddr := map[bool]netip.Addr{false: netip.MustParseAddr("172.30.0.2"), true: netip.MustParseAddr("fd30::2")}[f.Is6()]
		for range 10 {
			r.c = outer
			a := r.connectFrom(t, netip.AddrPortFrom(r.family(f).Container, 21000), l)
			r.c = inner
			b := r.connectFrom(t, netip.AddrPortFrom(innerAddr, 21000), l)
			r.c = outer
			pingpong(t, a)
			pingpong(t, b)
			exchange(t, a.container, a.peer)
			exchange(t, b.peer, b.container)
			for _, p := range []tcpPair{a, b} {
				check(t, p.container.SetLinger(0), p.container.Close())
				if _, err := io.Copy(io.Discard, p.peer); err != nil && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
					t.Errorf("the peer reads %v", err)
				}
				p.peer.Close()
			}
			r.noFlows(t)
		}
	})
}
