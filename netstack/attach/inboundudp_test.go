// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// servicePort is the container's port that is published.
const servicePort = 5300

// publishUDP publishes a UDP socket of the host's, which is bound to host, and
// returns its port.
func (r *rig) publishUDP(t testing.TB, id int, host netip.Addr) uint16 {
	t.Helper()
	domain := unix.AF_INET
	if host.Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(os.NewSyscallError("socket", err))
	}
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(host, 0))); err != nil {
		t.Fatal(os.NewSyscallError("bind", err))
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(os.NewSyscallError("getsockname", err))
	}
	var port int
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		port = sa.Port
	case *unix.SockaddrInet6:
		port = sa.Port
	}
	r.s.Network().Publish([]netstack.Inbound{{
		ID: id, UDP: true, FD: fd, Host: netip.AddrPortFrom(host, uint16(port)),
		Container: netip.AddrPortFrom(netip.Addr{}, servicePort),
	}})
	return uint16(port)
}

// serve has an echo server in the container for each family, at the published port.
func (r *rig) serve(t testing.TB) {
	t.Helper()
	for _, f := range r.plan.Families() {
		go echo(r.c.ListenPacket(t, netip.AddrPortFrom(f.Container, servicePort)))
	}
}

// dialUDP connects from a place to addr, and bounds how long that takes.
func dialUDP(t testing.TB, p *attachtest.Place, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := p.Dial(t, "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.UDPConn)
}

// roundTrip sends data and waits for it to come back.
func roundTrip(t testing.TB, c *net.UDPConn, data []byte) {
	t.Helper()
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, maxDatagram+1)
	n, err := c.Read(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:n], data) {
		t.Errorf("%d bytes came back, other than the %d that were sent", n, len(data))
	}
}

// TestPublishedUDP has the peer speak with a server in the container, through a
// socket for both families.
func TestPublishedUDP(t *testing.T) {
	for _, mtu := range []int{1500, 65520} {
		t.Run(fmt.Sprint("MTU ", mtu), func(t *testing.T) {
			r := start(t, func(cfg *attach.Config) { cfg.Tap.MTU = mtu })
			port := r.publishUDP(t, 1, netip.IPv6Unspecified())
			r.serve(t)
			families(t, func(t *testing.T, f attachtest.Family) {
				c := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, port))
				for _, size := range []int{0, 1, 1400, 1472, 9000, maxDatagram} {
					t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
						data := make([]byte, size)
						rand.Read(data) // never fails
						roundTrip(t, c, data)
					})
				}
			})
		})
	}
}

// TestPublishedUDPClient asks a server in the container whom it hears: the peer's
// clients by their own address and port, those of the host's loopback as the gateway.
func TestPublishedUDPClient(t *testing.T) {
	const clients = 100
	r := start(t, nil)
	families(t, func(t *testing.T, f attachtest.Family) {
		server := r.c.ListenPacket(t, netip.AddrPortFrom(r.family(f).Container, servicePort))
		deadline(t, server)
		for name, tt := range map[string]struct {
			bind, dial, seen netip.Addr
			from             *attachtest.Place
		}{
			"peer":                    {f.HostAddr, f.HostAddr, f.PeerAddr, r.Peer},
			"peer, wildcard":          {map[bool]netip.Addr{false: netip.IPv4Unspecified(), true: netip.IPv6Unspecified()}[f.Is6()], f.HostAddr, f.PeerAddr, r.Peer},
			"peer, both families":     {netip.IPv6Unspecified(), f.HostAddr, f.PeerAddr, r.Peer},
			"host":                    {f.HostAddr, f.HostAddr, f.HostAddr, r.Host},
			"loopback":                {f.Loopback, f.Loopback, r.family(f).Gateway, r.Host},
			"loopback, both families": {netip.IPv6Unspecified(), f.Loopback, r.family(f).Gateway, r.Host},
		} {
			t.Run(name, func(t *testing.T) {
				port := r.publishUDP(t, 1, tt.bind)
				defer r.s.Network().Withdraw(t.Context(), []int{1}, false)
				var conns []*net.UDPConn
				for range clients {
					c := dialUDP(t, tt.from, netip.AddrPortFrom(tt.dial, port))
					conns = append(conns, c)
					if _, err := fmt.Fprint(c, addrOf(c).Port()); err != nil {
						t.Fatal(err)
					}
				}
				for range clients {
					b := make([]byte, 16)
					n, from, err := server.ReadFromUDPAddrPort(b)
					if err != nil {
						t.Fatal(err)
					}
					if from.Addr() != tt.seen || fmt.Sprint(from.Port()) != string(b[:n]) {
						t.Errorf("client appears as %s, want %s and port %s", from, tt.seen, b[:n])
					}
					if _, err := server.WriteToUDPAddrPort(b[:n], from); err != nil {
						t.Fatal(err)
					}
				}
				for _, c := range conns {
					b := make([]byte, 16)
					if n, err := c.Read(b); err != nil || string(b[:n]) != fmt.Sprint(addrOf(c).Port()) {
						t.Errorf("answer %q, %v", b[:n], err)
					}
				}
			})
		}
	})
}

// TestPublishedUDPOtherFamily has a service of one family only, which clients of the other
// reach too, with all that they send.
func TestPublishedUDPOtherFamily(t *testing.T) {
	families(t, func(t *testing.T, f attachtest.Family) {
		r := start(t, nil)
		server := r.c.ListenPacket(t, netip.AddrPortFrom(r.family(f).Container, servicePort))
		go echo(server)
		port := r.publishUDP(t, 1, netip.IPv6Unspecified())
		for _, of := range attachtest.Families() {
			for range 10 {
				roundTrip(t, dialUDP(t, r.Peer, netip.AddrPortFrom(of.HostAddr, port)), []byte("hello"))
			}
		}
	})
}

// TestPublishedUDPSource sends to an address of the host's that is not its first: the
// client, which is connected, hears only answers from there.
func TestPublishedUDPSource(t *testing.T) {
	r := start(t, nil)
	port := r.publishUDP(t, 1, netip.IPv6Unspecified())
	r.serve(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		bits, nodad := "/24", []string(nil)
		if f.Is6() {
			bits, nodad = "/64", []string{"nodad"}
		}
		r.Host.Exec(t, append([]string{"ip", "addr", "add", f.Nobody.String() + bits, "dev", "host0"}, nodad...)...)
		defer r.Host.Exec(t, "ip", "addr", "del", f.Nobody.String()+bits, "dev", "host0")
		roundTrip(t, dialUDP(t, r.Peer, netip.AddrPortFrom(f.Nobody, port)), []byte("hello"))
	})
}

// TestPublishedUDPRefused has nobody listen in the container: the client hears so, and
// no more when somebody does.
func TestPublishedUDPRefused(t *testing.T) {
	families(t, func(t *testing.T, f attachtest.Family) {
		for name, host := range map[string]netip.Addr{"bound": f.HostAddr, "both families": netip.IPv6Unspecified()} {
			t.Run(name, func(t *testing.T) {
				r := start(t, nil)
				port := r.publishUDP(t, 1, host)
				c := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, port))
				attachtest.Eventually(t, "the client hears that the port is closed", func() bool {
					_, err := c.Write([]byte("anybody there?"))
					return errors.Is(err, unix.ECONNREFUSED)
				})
				r.serve(t)
				again := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, port))
				nonblocking, err := again.SyscallConn()
				if err != nil {
					t.Fatal(err)
				}
				attachtest.Eventually(t, "the client hears the service", func() bool {
					_, _ = again.Write([]byte("hello"))
					var n int
					err := nonblocking.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), make([]byte, 16)) })
					return err == nil && n == 5
				})
			})
		}
	})
}

// TestPublishedUDPClientGone tells the container that its client's socket has gone.
func TestPublishedUDPClientGone(t *testing.T) {
	r := start(t, nil)
	port := r.publishUDP(t, 1, netip.IPv6Unspecified())
	families(t, func(t *testing.T, f attachtest.Family) {
		server := r.c.ListenPacket(t, netip.AddrPortFrom(r.family(f).Container, servicePort))
		deadline(t, server)
		c := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, port))
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		_, from, err := server.ReadFromUDPAddrPort(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		raw, err := server.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		connect := func(fd uintptr) { err = unix.Connect(int(fd), sockaddr(from)) }
		if err := errors.Join(raw.Control(connect), err); err != nil {
			t.Fatal(err)
		}
		attachtest.Eventually(t, "the server hears that the client has gone", func() bool {
			_, err := server.Write([]byte("still there?"))
			return errors.Is(err, unix.ECONNREFUSED)
		})
	})
}

// TestPublishedUDPWithdrawn takes a port back: what its clients send is refused.
func TestPublishedUDPWithdrawn(t *testing.T) {
	r := start(t, nil)
	port := r.publishUDP(t, 1, netip.IPv6Unspecified())
	r.serve(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		roundTrip(t, dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, port)), []byte("hello"))
	})
	r.s.Network().Withdraw(t.Context(), []int{1}, false)
	families(t, func(t *testing.T, f attachtest.Family) {
		c := dialUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, port))
		if _, err := c.Write([]byte("still there?")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("client reads: %v, want %v", err, unix.ECONNREFUSED)
		}
	})
	if flows := r.s.Flows(t.Context()); len(flows) != 0 {
		t.Errorf("flows of a port that is gone: %+v", flows)
	}
}
