// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// maxDatagram is the longest payload that both families carry: 65535 bytes less
// the IPv4 and the UDP header.
const maxDatagram = 65507

// echo sends back what comes to the socket until that is closed.
func echo(c *net.UDPConn) {
	buf := make([]byte, maxDatagram+1)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteToUDPAddrPort(buf[:n], from)
	}
}

func TestUDPEcho(t *testing.T) {
	for _, mtu := range []int{1500, 65520} {
		t.Run(fmt.Sprint("MTU ", mtu), func(t *testing.T) {
			r := start(t, func(cfg *attach.Config) { cfg.Tap.MTU = mtu })
			families(t, func(t *testing.T, f attachtest.Family) {
				server := r.Peer.ListenPacket(t, netip.AddrPortFrom(f.PeerAddr, 0))
				go echo(server)
				c, err := r.c.Dial(t, "udp", server.LocalAddr().(*net.UDPAddr).AddrPort())
				if err != nil {
					t.Fatal(err)
				}
				for _, size := range []int{0, 1, 1400, 1472, 9000, maxDatagram} {
					t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
						data, got := make([]byte, size), make([]byte, maxDatagram+1)
						rand.Read(data) // never fails
						if _, err := c.Write(data); err != nil {
							t.Fatal(err)
						}
						n, err := c.Read(got)
						if err != nil {
							t.Fatal(err)
						}
						if !bytes.Equal(got[:n], data) {
							t.Errorf("%d bytes came back, other than the %d that were sent", n, size)
						}
					})
				}
			})
		})
	}
}

// TestUDPFullCone has a stranger answer at the address that the first peer saw.
func TestUDPFullCone(t *testing.T) {
	r := start(t, nil)
	families(t, func(t *testing.T, f attachtest.Family) {
		server := r.Peer.ListenPacket(t, netip.AddrPortFrom(f.PeerAddr, 0))
		stranger := r.Peer.ListenPacket(t, netip.AddrPortFrom(f.PeerAddr, 0))
		c := r.c.ListenPacket(t, netip.AddrPortFrom(r.family(f).Container, 0))
		deadline(t, server, stranger, c)
		buf := make([]byte, maxDatagram)
		if _, err := c.WriteToUDPAddrPort([]byte("hello"), addrOf(server)); err != nil {
			t.Fatal(err)
		}
		_, from, err := server.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stranger.WriteToUDPAddrPort([]byte("you too"), from); err != nil {
			t.Fatal(err)
		}
		n, by, err := c.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "you too" || by != addrOf(stranger) {
			t.Errorf("got %q from %s, error %v, want %q from %s", buf[:n], by, err, "you too", addrOf(stranger))
		}
	})
}

// TestUDPErrors compares errors in the container with those that the host has.
func TestUDPErrors(t *testing.T) {
	const port = 4001
	r := start(t, nil)
	r.hurryNeighbours(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		prohibited := map[bool]error{false: unix.EHOSTUNREACH, true: unix.EACCES}[f.Is6()]
		for _, tt := range []struct {
			name string
			dst  netip.Addr
			want error
		}{
			{"port unreachable", f.PeerAddr, unix.ECONNREFUSED},
			{"host unreachable", f.Nobody, unix.EHOSTUNREACH},
			{"net unreachable", f.NoRoute, unix.ENETUNREACH},
			{"prohibited", f.Prohibited, prohibited},
			{"gateway", r.family(f).Gateway, unix.ECONNREFUSED},
		} {
			t.Run(tt.name, func(t *testing.T) {
				c, err := r.c.Dial(t, "udp", netip.AddrPortFrom(tt.dst, port))
				if err != nil {
					t.Fatal(err)
				}
				hearErrors(t, c.(*net.UDPConn))
				if _, err := c.Write([]byte("anybody there?")); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, tt.want) {
					t.Errorf("read after a datagram to %s: %v, want %v", tt.dst, err, tt.want)
				}
			})
		}
	})
}

// TestUDPContainerClosed tells a peer that the container's socket has gone.
func TestUDPContainerClosed(t *testing.T) {
	r := start(t, nil)
	families(t, func(t *testing.T, f attachtest.Family) {
		server := r.Peer.ListenPacket(t, netip.AddrPortFrom(f.PeerAddr, 0))
		c, err := r.c.Dial(t, "udp", addrOf(server))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		deadline(t, server)
		_, from, err := server.ReadFromUDPAddrPort(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		// A connected socket, which hears of errors, in place of the server's, of
		// which it has address and port.
		server.Close()
		again := r.Peer.ListenPacket(t, addrOf(server))
		raw, err := again.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		connect := func(fd uintptr) { err = unix.Connect(int(fd), sockaddr(from)) }
		if err := errors.Join(raw.Control(connect), err); err != nil {
			t.Fatal(err)
		}
		deadline(t, again)
		// The first datagram makes the container say so; the host says so of those
		// that come after.
		attachtest.Eventually(t, "the peer hears that the port is closed", func() bool {
			_, err := again.Write([]byte("still there?"))
			return errors.Is(err, unix.ECONNREFUSED)
		})
	})
}

// hearErrors has the kernel tell a connected socket of all errors, also of those
// that may pass (IP_RECVERR of ip(7)).
func hearErrors(t testing.TB, c *net.UDPConn) {
	t.Helper()
	level, option := unix.IPPROTO_IP, unix.IP_RECVERR
	if addrOf(c).Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	set := func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }
	if err := errors.Join(raw.Control(set), err); err != nil {
		t.Fatal(err)
	}
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// deadline bounds how long anything waits on the sockets.
func deadline(t testing.TB, conns ...*net.UDPConn) {
	t.Helper()
	for _, c := range conns {
		if err := c.SetDeadline(time.Now().Add(attachtest.Patience)); err != nil {
			t.Fatal(err)
		}
	}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
