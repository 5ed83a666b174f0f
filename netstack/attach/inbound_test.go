// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/portfwd"
	"golang.org/x/sys/unix"
)

// publish publishes what the rule says, and returns where that is.
func (r *rig) publish(t testing.TB, rule portfwd.Rule) netip.AddrPort {
	t.Helper()
	rule.Proto, rule.Count = cmp.Or(rule.Proto, portfwd.TCP), 1
	ports, err := r.s.Ports().Add(context.Background(), []portfwd.Rule{rule})
	check(t, err)
	return ports[0].Host
}

// toPort is a rule for a port of the container's, at an address of the host.
func toPort(at netip.Addr, l net.Listener) portfwd.Rule {
	return portfwd.Rule{Host: at, ContainerPort: tcpAddr(l.Addr()).Port()}
}

// enter connects from the place to the published port, and accepts at the container's.
func enter(t testing.TB, from *attachtest.Place, host netip.AddrPort, l *net.TCPListener) tcpPair {
	t.Helper()
	c, err := from.Dial(t, "tcp", host)
	check(t, err)
	t.Cleanup(func() { c.Close() })
	check(t, l.SetDeadline(deadlineNow()))
	s, err := l.AcceptTCP()
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return tcpPair{container: s, peer: c.(*net.TCPConn)}
}

// TestInbound has the container see clients as they are, and bytes pass both ways.
func TestInbound(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
			host := r.publish(t, toPort(f.HostAddr, l))
			p := enter(t, r.Peer, host, l)
			if got, want := tcpAddr(p.container.RemoteAddr()), tcpAddr(p.peer.LocalAddr()); got != want {
				t.Errorf("the container sees %s, the client is %s", got, want)
			}
			fs := r.flows(t)
			if len(fs) != 1 || fs[0].Path != path {
				t.Errorf("flows %+v, want one, %s", fs, path)
			}
			pass(t, p.container, p.peer)
			halfClose(t, p.peer, p.container)
			r.noFlows(t)
			p = enter(t, r.Peer, host, l)
			halfClose(t, p.container, p.peer)
			r.noFlows(t)
		})
	})
}

// pass sends a byte, and leaves the connection open.
func pass(t testing.TB, from, to *net.TCPConn) {
	t.Helper()
	_, err := from.Write([]byte{1})
	check(t, err, to.SetReadDeadline(deadlineNow()))
	_, err = io.ReadFull(to, make([]byte, 1))
	check(t, err)
}

// halfClose has one end say that it sends no more, and get an answer all the same.
func halfClose(t testing.TB, a, b *net.TCPConn) {
	t.Helper()
	question, answer := make([]byte, 1<<20), make([]byte, 1<<20)
	rand.Read(question) // never fails
	rand.Read(answer)
	sent := make(chan error, 1)
	go func() {
		_, err := a.Write(question)
		sent <- errors.Join(err, a.CloseWrite())
	}()
	got, err := io.ReadAll(b)
	check(t, err, <-sent)
	if !bytes.Equal(got, question) {
		t.Errorf("the question has %d bytes, want %d", len(got), len(question))
	}
	go func() {
		_, err := b.Write(answer)
		sent <- errors.Join(err, b.Close())
	}()
	got, err = io.ReadAll(a)
	check(t, err, <-sent)
	if !bytes.Equal(got, answer) {
		t.Errorf("the answer has %d bytes, want %d", len(got), len(answer))
	}
	check(t, a.Close())
}

// TestInboundRefused has nobody listen in the container.
func TestInboundRefused(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			host := r.publish(t, portfwd.Rule{Host: f.HostAddr, ContainerPort: 1})
			c, err := r.Peer.Dial(t, "tcp", host)
			if err != nil {
				return // so soon that the connect saw it
			}
			defer c.Close()
			check(t, c.SetDeadline(deadlineNow()))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("read from a port that nobody listens at: %v, want %v", err, unix.ECONNRESET)
			}
			r.noFlows(t)
		})
	})
}

// TestInboundFromHost has clients that cannot be shown as they are: they appear as the
// gateway.
func TestInboundFromHost(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
			host := r.publish(t, toPort(f.Loopback, l))
			p := enter(t, r.Host, host, l)
			want := netip.AddrPortFrom(r.family(f).Gateway, tcpAddr(p.peer.LocalAddr()).Port())
			if got := tcpAddr(p.container.RemoteAddr()); got != want {
				t.Errorf("the container sees %s, want %s", got, want)
			}
			exchange(t, p.container, p.peer)
			exchange(t, p.peer, p.container)
		})
	})
}

// TestInboundCrossFamily has a client of a family that the container does not have.
func TestInboundCrossFamily(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		fs := attachtest.Families()
		l := r.c.Listen(t, netip.AddrPortFrom(r.family(fs[0]).Container, 0))
		rule := toPort(fs[1].HostAddr, l)
		rule.Container = r.family(fs[0]).Container
		host := r.publish(t, rule)
		p := enter(t, r.Peer, host, l)
		want := netip.AddrPortFrom(r.family(fs[0]).Gateway, tcpAddr(p.peer.LocalAddr()).Port())
		if got := tcpAddr(p.container.RemoteAddr()); got != want {
			t.Errorf("the container sees %s, want %s", got, want)
		}
		exchange(t, p.container, p.peer)
	})
}

// TestInboundSameClient has one port of a client go to one of the container's by two
// published ports: the second connection cannot be called as the first.
func TestInboundSameClient(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		f := attachtest.Families()[0]
		l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
		var clients []netip.AddrPort
		for range 2 {
			host := r.publish(t, toPort(f.HostAddr, l))
			p := enterFrom(t, r.Peer, netip.AddrPortFrom(f.PeerAddr, 5000), host, l)
			pass(t, p.container, p.peer)
			pass(t, p.peer, p.container)
			clients = append(clients, tcpAddr(p.container.RemoteAddr()))
		}
		want := []netip.AddrPort{netip.AddrPortFrom(f.PeerAddr, 5000), netip.AddrPortFrom(r.family(f).Gateway, 5000)}
		if clients[0] != want[0] || clients[1] != want[1] {
			t.Errorf("the container sees %v, want %v", clients, want)
		}
	})
}

// enterFrom is enter from an address of the client's.
func enterFrom(t testing.TB, from *attachtest.Place, addr, host netip.AddrPort, l *net.TCPListener) tcpPair {
	t.Helper()
	s := from.Socket(t, unix.AF_INET, unix.SOCK_STREAM, 0)
	defer s.Close()
	fd := int(s.Fd())
	check(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}))
	attachtest.Eventually(t, "the tuple is free", func() bool {
		err := unix.Connect(fd, &unix.SockaddrInet4{Addr: host.Addr().As4(), Port: int(host.Port())})
		if err != unix.EADDRNOTAVAIL {
			check(t, err)
		}
		return err == nil
	})
	c, err := net.FileConn(s)
	check(t, err)
	t.Cleanup(func() { c.Close() })
	check(t, l.SetDeadline(deadlineNow()))
	a, err := l.AcceptTCP()
	check(t, err)
	t.Cleanup(func() { a.Close() })
	return tcpPair{container: a, peer: c.(*net.TCPConn)}
}

// TestInboundLoopback publishes services that listen at the container's loopback only,
// also where TCP is stacked.
func TestInboundLoopback(t *testing.T) {
	for _, accel := range []bool{true, false} {
		r := start(t, func(cfg *attach.Config) { cfg.NoSplice = !accel })
		families(t, func(t *testing.T, f attachtest.Family) {
			l := r.c.Listen(t, netip.AddrPortFrom(f.Loopback, 0))
			rule := toPort(f.HostAddr, l)
			rule.Loopback = true
			host := r.publish(t, rule)
			p := enter(t, r.Peer, host, l)
			if got := tcpAddr(p.container.RemoteAddr()).Addr(); got != f.Loopback {
				t.Errorf("the container sees %s, want %s", got, f.Loopback)
			}
			pass(t, p.container, p.peer)
			halfClose(t, p.peer, p.container)
			r.noFlows(t)
		})
	}
}

// TestInboundWithdraw takes a port back: flows go on unless they are cut.
func TestInboundWithdraw(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		for _, cut := range []bool{false, true} {
			r := startOn(t, path, nil)
			f := attachtest.Families()[0]
			l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
			host := r.publish(t, toPort(f.HostAddr, l))
			p := enter(t, r.Peer, host, l)
			pass(t, p.container, p.peer)
			check(t, r.s.Ports().Remove(context.Background(), []int{r.s.Ports().Ports()[0].ID}, cut))
			if _, err := r.Peer.Dial(t, "tcp", host); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("connect to a port that was taken back: %v, want %v", err, unix.ECONNREFUSED)
			}
			if !cut {
				pass(t, p.peer, p.container)
				pass(t, p.container, p.peer)
				continue
			}
			check(t, p.peer.SetDeadline(deadlineNow()))
			if _, err := p.peer.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("read from a connection that was cut: %v, want %v", err, unix.ECONNRESET)
			}
			r.noFlows(t)
		}
	})
}

// TestInboundReset passes resets on, both ways.
func TestInboundReset(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
			host := r.publish(t, toPort(f.HostAddr, l))
			for _, fromClient := range []bool{true, false} {
				p := enter(t, r.Peer, host, l)
				pass(t, p.container, p.peer)
				a, b := p.peer, p.container
				if !fromClient {
					a, b = b, a
				}
				check(t, a.SetLinger(0), a.Close(), b.SetDeadline(deadlineNow()))
				if _, err := b.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("read after the other end's reset: %v, want %v", err, unix.ECONNRESET)
				}
				r.noFlows(t)
			}
		})
	})
}

// TestInboundTranslated has the container pass a published port on to one behind a
// bridge of its own, as Docker does: that sees the client, too.
func TestInboundTranslated(t *testing.T) {
	r := spliced(t)
	inner := r.bridged(t, masqueradeInner)
	f := attachtest.Families()[0]
	l := inner.Listen(t, netip.MustParseAddrPort("172.30.0.2:0"))
	r.c.Exec(t, "nft", "table ip publish { chain pre { type nat hook prerouting priority -100; iifname tap0 tcp dport 8080 dnat to "+l.Addr().String()+"; }; }")
	host := r.publish(t, portfwd.Rule{Host: f.HostAddr, ContainerPort: 8080})
	p := enter(t, r.Peer, host, l)
	if got, want := tcpAddr(p.container.RemoteAddr()), tcpAddr(p.peer.LocalAddr()); got != want {
		t.Errorf("the inner container sees %s, the client is %s", got, want)
	}
	pass(t, p.container, p.peer)
	halfClose(t, p.peer, p.container)
	r.noFlows(t)
}

// TestInboundRulesLost has the container's answers go astray, since routing has been
// changed: the connection comes about all the same.
func TestInboundRulesLost(t *testing.T) {
	r := spliced(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
		host := r.publish(t, toPort(f.HostAddr, l))
		r.c.Exec(t, "ip", map[bool]string{false: "-4", true: "-6"}[f.Is6()], "rule", "del", "priority", "1")
		p := enter(t, r.Peer, host, l)
		if got, want := tcpAddr(p.container.RemoteAddr()), tcpAddr(p.peer.LocalAddr()); got != want {
			t.Errorf("the container sees %s, the client is %s", got, want)
		}
		pass(t, p.container, p.peer)
		halfClose(t, p.peer, p.container)
		r.noFlows(t)
	})
}

// TestAuto publishes what listens in the container, and takes it back.
func TestAuto(t *testing.T) {
	auto, err := portfwd.ParseAuto("auto/tcp,!1000-1999")
	check(t, err)
	r := start(t, func(cfg *attach.Config) { cfg.Auto = &auto })
	f := attachtest.Families()[0]
	l := r.c.Listen(t, netip.AddrPortFrom(netip.IPv4Unspecified(), 2345))
	r.c.Listen(t, netip.AddrPortFrom(netip.IPv4Unspecified(), 1234))
	attachtest.Eventually(t, "the port is published", func() bool { return len(r.s.Ports().Ports()) == 1 })
	p := enter(t, r.Peer, netip.AddrPortFrom(f.HostAddr, 2345), l)
	pass(t, p.container, p.peer)
	check(t, l.Close())
	attachtest.Eventually(t, "the port is taken back", func() bool { return len(r.s.Ports().Ports()) == 0 })
	pass(t, p.peer, p.container)
}

// TestInboundOneFamily has a service that listens at one family only, and clients of
// both: those of the other appear as the gateway.
func TestInboundOneFamily(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
			host := r.publish(t, toPort(netip.Addr{}, l))
			for _, from := range attachtest.Families() {
				p := enter(t, r.Peer, netip.AddrPortFrom(from.HostAddr, host.Port()), l)
				want := tcpAddr(p.peer.LocalAddr())
				if from.Is6() != f.Is6() {
					want = netip.AddrPortFrom(r.family(f).Gateway, want.Port())
				}
				if got := tcpAddr(p.container.RemoteAddr()); got != want {
					t.Errorf("the container sees %s, want %s", got, want)
				}
				pass(t, p.container, p.peer)
				if fs := r.flows(t); len(fs) != 1 || fs[0].Path != path || fs[0].Host != tcpAddr(p.peer.RemoteAddr()) || fs[0].Direction != netstack.DirectionIn {
					t.Errorf("flows %+v, want one, %s, to %s", fs, path, p.peer.RemoteAddr())
				}
				halfClose(t, p.peer, p.container)
				r.noFlows(t)
			}
		})
	})
}
