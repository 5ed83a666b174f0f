// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/portfwd"
	"golang.org/x/sys/unix"
)

// factoryPort waits until the session listens at the container's loopback, where nobody
// else does, to get sockets there, and returns the port.
func (r *rig) factoryPort(t testing.TB, f attachtest.Family) (port uint16) {
	t.Helper()
	attachtest.Eventually(t, "the factory is open", func() bool {
		for _, word := range strings.Fields(r.c.Exec(t, "ss", "-Htln")) {
			if a, err := netip.ParseAddrPort(word); err == nil && a.Addr() == f.Loopback {
				port = a.Port()
			}
		}
		return port != 0
	})
	return port
}

// TestInboundFactoryBlocked has the container keep from us the sockets that connect to
// published services: clients get in all the same, and the sockets are used when they
// can be had again.
func TestInboundFactoryBlocked(t *testing.T) {
	attachtest.NeedTools(t, "nft", "ss")
	for _, verdict := range []string{"drop", "reject with tcp reset", "drop for long"} {
		t.Run(verdict, func(t *testing.T) {
			r := spliced(t)
			f := attachtest.Families()[0]
			l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
			host := r.publish(t, toPort(f.HostAddr, l))
			rule, long := strings.CutSuffix(verdict, " for long")
			if long {
				r.c.Exec(t, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_syn_retries")
			}
			port := r.factoryPort(t, f)
			r.c.Exec(t, "nft", fmt.Sprintf("table ip f { chain in { type filter hook input priority 0; tcp dport %d %s; }; }", port, rule))
			p := enter(t, r.Peer, host, l)
			pass(t, p.peer, p.container)
			if fs := r.flows(t); len(fs) != 1 || fs[0].Path != netstack.PathStacked {
				t.Errorf("flows %+v, want one, %s", fs, netstack.PathStacked)
			}
			p.close()
			r.noFlows(t)
			if long {
				// So long that the attempt to make one has ended by itself.
				attachtest.Eventually(t, "the attempt has ended", func() bool {
					return !strings.Contains(r.c.Exec(t, "ss", "-Htn", "state", "syn-sent"), fmt.Sprint(":", port))
				})
			}
			r.c.Exec(t, "nft", "delete", "table", "ip", "f")
			attachtest.Eventually(t, "a client is spliced again", func() bool {
				p := enter(t, r.Peer, host, l)
				pass(t, p.peer, p.container)
				fs := r.flows(t)
				p.close()
				r.noFlows(t)
				return len(fs) == 1 && fs[0].Path == netstack.PathSpliced
			})
		})
	}
}

// TestInboundClientLeaves has clients that are gone before anybody in the container has
// taken their connection.
func TestInboundClientLeaves(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			family := map[bool]string{false: "ip", true: "ip6"}[f.Is6()]
			r.c.Exec(t, "nft", fmt.Sprintf("table %s f { chain in { type filter hook input priority 0; tcp dport 99 drop; }; }", family))
			host := r.publish(t, portfwd.Rule{Host: f.HostAddr, ContainerPort: 99})
			c, err := r.Peer.Dial(t, "tcp", host)
			check(t, err)
			attachtest.Eventually(t, "the container is connected to", func() bool { return len(r.flows(t)) == 1 })
			check(t, c.(interface{ SetLinger(int) error }).SetLinger(0), c.Close())
			r.noFlows(t)
		})
	})
}

// TestInboundPortOfTheService has clients come from the very port that the service
// listens at, which the container's kernel cannot choose for us: they and the next are
// spliced as well.
func TestInboundPortOfTheService(t *testing.T) {
	const port = 22000 // which no kernel gives away in the peer's network
	r := &rig{World: attachtest.Open(t), c: attachtest.NewContainer(t), plan: newPlan(t), log: &syncBuffer{}}
	r.c.Exec(t, "sh", "-c", "echo 20000 30000 > /proc/sys/net/ipv4/ip_local_port_range")
	r.open(t, nil)
	r.waitSpliced(t, 1)
	f := attachtest.Families()[0]
	l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, port))
	host := r.publish(t, toPort(f.HostAddr, l))
	for i := range uint16(6) {
		from := netip.AddrPortFrom(f.PeerAddr, port+i/2*(i%2))
		p := enterFrom(t, r.Peer, from, host, l)
		if got := tcpAddr(p.container.RemoteAddr()); got != from {
			t.Errorf("the container sees %s, the client is %s", got, from)
		}
		pass(t, p.peer, p.container)
		if fs := r.flows(t); len(fs) != 1 || fs[0].Path != netstack.PathSpliced {
			t.Errorf("client %d from %s: flows %+v, want one, %s", i, from, fs, netstack.PathSpliced)
		}
		check(t, p.container.Close()) // so the client's side has no TIME_WAIT
		check(t, p.peer.Close())
		r.noFlows(t)
	}
}

// TestInboundNotToItself has nobody listen at a port of the container's loopback that
// its kernel may choose for us: a client must not get its own words back.
func TestInboundNotToItself(t *testing.T) {
	const port = 40000
	r := spliced(t)
	f := attachtest.Families()[0]
	host := r.publish(t, portfwd.Rule{Host: f.HostAddr, ContainerPort: port, Loopback: true})
	r.factoryPort(t, f) // which is another
	r.c.Exec(t, "sh", "-c", fmt.Sprintf("echo %d %[1]d > /proc/sys/net/ipv4/ip_local_port_range", port))
	for range 5 {
		c, err := r.Peer.Dial(t, "tcp", host)
		if err == nil {
			// Whichever comes first after the reset tells of it, once.
			if _, err = c.Write([]byte("x")); err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			c.Close()
		}
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("client gets %v, want %v", err, unix.ECONNRESET)
		}
	}
	r.noFlows(t)
}

// TestAutoLeavesOurs follows what listens at the container's loopback, but for what the
// session itself has there to make sockets.
func TestAutoLeavesOurs(t *testing.T) {
	attachtest.NeedTools(t, "ss")
	auto, err := portfwd.ParseAuto("auto/tcp,loopback")
	check(t, err)
	r := start(t, func(cfg *attach.Config) { cfg.Auto = &auto })
	f := attachtest.Families()[0]
	published := func(port uint16) func() bool {
		return func() bool {
			for _, p := range r.s.Ports().Ports() {
				if p.Container.Port() == port {
					return true
				}
			}
			return false
		}
	}
	r.c.Listen(t, netip.AddrPortFrom(f.Loopback, 2345))
	attachtest.Eventually(t, "the service is published", published(2345))
	attachtest.Eventually(t, "the factory is open", func() bool { return strings.Count(r.c.Exec(t, "ss", "-Htln"), f.Loopback.String()) == 2 })
	r.c.Listen(t, netip.AddrPortFrom(f.Loopback, 2346)) // a look later
	attachtest.Eventually(t, "another service is published", published(2346))
	if got := r.s.Ports().Ports(); len(got) != 2 {
		t.Errorf("published: %v, want 2 ports", got)
	}
}

// sayBothWays has each end say the words, and proves that the other hears nothing else
// first.
func sayBothWays(t testing.TB, p tcpPair, words string) {
	t.Helper()
	check(t, p.container.SetDeadline(deadlineNow()), p.peer.SetDeadline(deadlineNow()))
	for _, d := range []struct{ a, b *net.TCPConn }{{p.peer, p.container}, {p.container, p.peer}} {
		_, err := d.a.Write([]byte(words))
		check(t, err)
		got := make([]byte, len(words))
		if _, err := io.ReadFull(d.b, got); err != nil || string(got) != words {
			t.Fatalf("got %q, %v, want %q", got, err, words)
		}
	}
}

// TestInboundPortReuse has one client come again and again from one port, as soon as its
// kernel lets it, and leave in ways that leave something behind. The container must see
// each as it is, and get of each nothing but its own.
func TestInboundPortReuse(t *testing.T) {
	const times = 100
	ways := []struct {
		name string
		end  func(testing.TB, tcpPair)
	}{
		{"reset, unread in the container", func(t testing.TB, p tcpPair) {
			_, _ = p.peer.Write(bytes.Repeat([]byte("old"), 100000))
			check(t, p.peer.SetLinger(0), p.peer.Close())
		}},
		{"reset, unread by the client", func(t testing.TB, p tcpPair) {
			_, _ = p.container.Write(bytes.Repeat([]byte("old"), 100000))
			check(t, p.peer.SetLinger(0), p.peer.Close())
		}},
		{"reset, stuck in the helper", func(t testing.TB, p tcpPair) {
			check(t, p.peer.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
			for {
				if _, err := p.peer.Write(bytes.Repeat([]byte("old"), 1<<20)); err != nil {
					break
				}
			}
			check(t, p.container.SetLinger(0), p.container.Close(), p.peer.SetLinger(0), p.peer.Close())
		}},
		{"closed by the container first", func(t testing.TB, p tcpPair) {
			check(t, p.container.Close())
			_, err := p.peer.Read(make([]byte, 1))
			if err != io.EOF {
				t.Errorf("the client reads %v", err)
			}
			check(t, p.peer.Close())
		}},
	}
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		f := attachtest.Families()[0]
		l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
		host := r.publish(t, toPort(f.HostAddr, l))
		for i, way := range ways {
			t.Run(way.name, func(t *testing.T) {
				from := netip.AddrPortFrom(f.PeerAddr, uint16(21000+i))
				for n := range times {
					p := enterFrom(t, r.Peer, from, host, l)
					if got := tcpAddr(p.container.RemoteAddr()); got != from {
						t.Fatalf("time %d: the container sees %s, the client is %s", n, got, from)
					}
					sayBothWays(t, p, fmt.Sprintf("number %04d", n))
					way.end(t, p)
				}
			})
		}
	})
}

// TestInboundFactoryFlood has the container connect to where the session gets its
// sockets, and speak there, while clients come in: all get to the service, and hear
// nothing but its words.
func TestInboundFactoryFlood(t *testing.T) {
	attachtest.NeedTools(t, "ss")
	const clients = 200
	r := spliced(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.c.Listen(t, netip.AddrPortFrom(r.family(f).Container, 0))
		host := r.publish(t, toPort(f.HostAddr, l))
		at := netip.AddrPortFrom(f.Loopback, r.factoryPort(t, f))
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if c, err := r.c.Dial(t, "tcp", at); err == nil {
					_, _ = c.Write([]byte("evil"))
					if i%2 == 0 {
						c.Close() // the others stay until the test's end, or their reset
					}
				}
			}
		}()
		for n := range clients {
			p := enter(t, r.Peer, host, l)
			sayBothWays(t, p, fmt.Sprintf("number %04d", n))
			p.close()
		}
		close(stop)
		<-stopped
		r.noFlows(t)
	})
}
