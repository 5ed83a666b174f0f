// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/portfwd"
	"golang.org/x/sys/unix"
)

// loopbackRule publishes a UDP port of the container's loopback at every address.
func loopbackRule(port uint16) portfwd.Rule {
	return portfwd.Rule{Proto: portfwd.UDP, ContainerPort: port, Loopback: true}
}

// udpAddr returns where a UDP socket is bound.
func udpAddr(c net.PacketConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// TestInboundLoopbackUDP has clients of both families come to services that listen at the
// container's 127.0.0.1 only, also where TCP is stacked.
func TestInboundLoopbackUDP(t *testing.T) {
	const clients = 50
	for _, accel := range []bool{true, false} {
		t.Run(fmt.Sprint("accel ", accel), func(t *testing.T) {
			r := start(t, func(cfg *attach.Config) { cfg.NoSplice = !accel })
			server := r.c.ListenPacket(t, netip.MustParseAddrPort("127.0.0.1:0"))
			deadline(t, server)
			host := r.publish(t, loopbackRule(udpAddr(server).Port()))
			seen := make(map[netip.AddrPort]bool)
			families(t, func(t *testing.T, f attachtest.Family) {
				var conns []*net.UDPConn
				for range clients {
					c := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, host.Port()))
					conns = append(conns, c)
					if _, err := fmt.Fprint(c, addrOf(c).Port()); err != nil {
						t.Fatal(err)
					}
				}
				for range clients {
					b := make([]byte, 16)
					n, from, err := server.ReadFromUDPAddrPort(b)
					check(t, err)
					if !from.Addr().IsLoopback() || seen[from] {
						t.Errorf("a client appears as %v, want a loopback address of its own", from)
					}
					seen[from] = true
					_, err = server.WriteToUDPAddrPort(b[:n], from)
					check(t, err)
				}
				for _, c := range conns {
					b := make([]byte, 16)
					if n, err := c.Read(b); err != nil || string(b[:n]) != fmt.Sprint(addrOf(c).Port()) {
						t.Errorf("answer %q, %v", b[:n], err)
					}
				}
			})
			fs := r.s.Flows(t.Context())
			for _, f := range fs {
				if f.Path != netstack.PathLoopback || f.Container != udpAddr(server) || !seen[f.Remote] {
					t.Errorf("flow %+v", f)
				}
			}
			if len(fs) != len(seen) || len(seen) != clients*len(attachtest.Families()) {
				t.Errorf("%d flows, %d clients seen", len(fs), len(seen))
			}
		})
	}
}

// TestInboundLoopbackUDPSizes carries datagrams of any size both ways.
func TestInboundLoopbackUDPSizes(t *testing.T) {
	r := start(t, nil)
	server := r.c.ListenPacket(t, netip.MustParseAddrPort("127.0.0.1:0"))
	host := r.publish(t, loopbackRule(udpAddr(server).Port()))
	go echo(server)
	families(t, func(t *testing.T, f attachtest.Family) {
		c := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, host.Port()))
		for _, size := range []int{0, 1, 1400, 1472, 9000, maxDatagram} {
			roundTrip(t, c, make([]byte, size))
		}
	})
}

// TestInboundLoopbackUDP6 has clients of both families come to services that listen at ::1
// only, and who then move to 127.0.0.1. Not one datagram is lost.
func TestInboundLoopbackUDP6(t *testing.T) {
	const clients = 50
	for _, accel := range []bool{true, false} {
		t.Run(fmt.Sprint("accel ", accel), func(t *testing.T) {
			r := start(t, func(cfg *attach.Config) { cfg.NoSplice = !accel })
			six := r.c.ListenPacket(t, netip.MustParseAddrPort("[::1]:0"))
			host := r.publish(t, loopbackRule(udpAddr(six).Port()))
			seen := make(chan netip.AddrPort, 2*clients)
			go func() {
				defer close(seen)
				b := make([]byte, 1<<16)
				for {
					n, from, err := six.ReadFromUDPAddrPort(b)
					if err != nil {
						return
					}
					if _, err := six.WriteToUDPAddrPort(b[:n], from); err != nil {
						return
					}
					seen <- from
				}
			}()
			families(t, func(t *testing.T, f attachtest.Family) {
				for range clients {
					roundTrip(t, dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, host.Port())), []byte("hello"))
				}
			})
			check(t, six.Close())
			known := map[netip.AddrPort]bool{}
			for from := range seen {
				known[from] = true
			}
			if len(known) != clients*len(attachtest.Families()) {
				t.Errorf("%d clients were seen", len(known))
			}
			four := r.c.ListenPacket(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), udpAddr(six).Port()))
			go echo(four)
			families(t, func(t *testing.T, f attachtest.Family) {
				c := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, host.Port()))
				attachtest.Eventually(t, "the client hears the service", func() bool { return echoed(t, c) })
			})
		})
	}
}

// echoed sends a datagram and reports whether an answer is there.
func echoed(t *testing.T, c *net.UDPConn) bool {
	t.Helper()
	_, _ = c.Write([]byte("hello"))
	raw, err := c.SyscallConn()
	check(t, err)
	var n int
	err = raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), make([]byte, 16)) })
	return err == nil && n == 5
}

// TestInboundLoopbackUDP6Sizes carries datagrams of any size to ::1 and back, after a first.
func TestInboundLoopbackUDP6Sizes(t *testing.T) {
	r := start(t, nil)
	six := r.c.ListenPacket(t, netip.MustParseAddrPort("[::1]:0"))
	host := r.publish(t, loopbackRule(udpAddr(six).Port()))
	go echo(six)
	families(t, func(t *testing.T, f attachtest.Family) {
		c := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, host.Port()))
		for _, size := range []int{0, 1, 1400, 1472, 9000, maxDatagram - 20} {
			roundTrip(t, c, make([]byte, size))
		}
	})
}

// TestInboundLoopbackUDPRefused has nobody listen at either loopback address: the client
// hears so, and no more when somebody does.
func TestInboundLoopbackUDPRefused(t *testing.T) {
	r := start(t, nil)
	gone := r.c.ListenPacket(t, netip.MustParseAddrPort("127.0.0.1:0"))
	at := udpAddr(gone)
	check(t, gone.Close())
	host := r.publish(t, loopbackRule(at.Port()))
	f := attachtest.Families()[0]
	c := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, host.Port()))
	attachtest.Eventually(t, "the client hears that the port is closed", func() bool {
		_, err := c.Write([]byte("anybody there?"))
		return errors.Is(err, unix.ECONNREFUSED)
	})
	go echo(r.c.ListenPacket(t, at))
	again := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, host.Port()))
	attachtest.Eventually(t, "the client hears the service", func() bool { return echoed(t, again) })
}

// TestInboundLoopbackUDPNoPort tells who publishes that the container has no port left
// for the socket, and does not when it has.
func TestInboundLoopbackUDPNoPort(t *testing.T) {
	r := start(t, nil)
	r.c.Exec(t, "sh", "-c", "echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range")
	last := r.c.ListenPacket(t, netip.MustParseAddrPort("0.0.0.0:40000"))
	add := func() error {
		rule := loopbackRule(53)
		rule.Count = 1
		_, err := r.s.Ports().Add(t.Context(), []portfwd.Rule{rule})
		return err
	}
	if err := add(); !errors.Is(err, portfwd.ErrNoLoopback) || !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("Add: %v, want %v", err, portfwd.ErrNoLoopback)
	}
	if n := len(r.s.Ports().Ports()); n != 0 {
		t.Errorf("%d ports are published", n)
	}
	check(t, last.Close())
	// A program that is being started may have a copy of it for a moment.
	attachtest.Eventually(t, "the port is to be had", func() bool { return add() == nil })
}

// TestInboundLoopbackUnpinned says that nothing reaches the container's loopback where
// nothing was made there.
func TestInboundLoopbackUnpinned(t *testing.T) {
	r := prepare(t, func(cfg *attach.Config) { cfg.Tap.Pin = false })
	for _, proto := range []portfwd.Proto{portfwd.TCP, portfwd.UDP} {
		rule := portfwd.Rule{Proto: proto, ContainerPort: 80, Loopback: true, Count: 1}
		if _, err := r.s.Ports().Add(t.Context(), []portfwd.Rule{rule}); !errors.Is(err, portfwd.ErrNoLoopback) {
			t.Errorf("%s: %v, want %v", proto, err, portfwd.ErrNoLoopback)
		}
	}
}
