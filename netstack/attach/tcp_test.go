// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/netstack/policy"
	"golang.org/x/sys/unix"
)

// A tcpPair is one connection as both of its ends have it.
type tcpPair struct{ container, peer *net.TCPConn }

// connect connects from the container to a listener at the peer.
func (r *rig) connect(t testing.TB, f attachtest.Family) tcpPair {
	t.Helper()
	l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
	return r.connectTo(t, l, l.Addr().(*net.TCPAddr).AddrPort())
}

// connectTo connects from the container to dst and takes what the listener gets.
func (r *rig) connectTo(t testing.TB, l *net.TCPListener, dst netip.AddrPort) tcpPair {
	t.Helper()
	c, err := r.c.Dial(t, "tcp", dst)
	if err != nil {
		t.Fatalf("connect to %s: %v", dst, err)
	}
	p, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := p.SetDeadline(time.Now().Add(attachtest.Patience)); err != nil {
		t.Fatal(err)
	}
	pair := tcpPair{c.(*net.TCPConn), p}
	if r.path != "" {
		if got := r.flowOf(t, pair).Path; got != r.path {
			t.Errorf("the connection to %s is %s, want %s", dst, got, r.path)
		}
	}
	return pair
}

// exchange sends a megabyte from a to b and reads it to the end.
func exchange(t testing.TB, a, b *net.TCPConn) {
	t.Helper()
	data := make([]byte, 1<<20)
	rand.Read(data) // never fails
	sent := make(chan error, 1)
	go func() {
		_, err := a.Write(data)
		sent <- errors.Join(err, a.CloseWrite())
	}()
	got, err := io.ReadAll(b)
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes arrived, other than the %d that were sent", len(got), len(data))
	}
}

// TestTCPStream uses each half of a connection after the other was closed.
func TestTCPStream(t *testing.T) { paths(t, tcpStream) }

func tcpStream(t *testing.T, path string) {
	r := startOn(t, path, nil)
	families(t, func(t *testing.T, f attachtest.Family) {
		t.Run("container first", func(t *testing.T) {
			p := r.connect(t, f)
			exchange(t, p.container, p.peer)
			exchange(t, p.peer, p.container)
		})
		t.Run("peer first", func(t *testing.T) {
			p := r.connect(t, f)
			exchange(t, p.peer, p.container)
			exchange(t, p.container, p.peer)
		})
	})
	attachtest.Eventually(t, "all flows are closed", func() bool { return len(r.s.Flows(t.Context())) == 0 })
}

// TestTCPReset closes one end with a RST, which the other one must see.
func TestTCPReset(t *testing.T) { paths(t, tcpReset) }

func tcpReset(t *testing.T, path string) {
	r := startOn(t, path, nil)
	families(t, func(t *testing.T, f attachtest.Family) {
		for _, tt := range []struct {
			name string
			ends func(tcpPair) (a, b *net.TCPConn)
		}{
			{"by the container", func(p tcpPair) (a, b *net.TCPConn) { return p.container, p.peer }},
			{"by the peer", func(p tcpPair) (a, b *net.TCPConn) { return p.peer, p.container }},
		} {
			t.Run(tt.name, func(t *testing.T) {
				a, b := tt.ends(r.connect(t, f))
				if err := errors.Join(a.SetLinger(0), a.Close()); err != nil {
					t.Fatal(err)
				}
				if _, err := b.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("read at the other end: %v, want %v", err, unix.ECONNRESET)
				}
			})
		}
	})
}

// TestTCPErrors compares errors in the container with those that the host has.
func TestTCPErrors(t *testing.T) { paths(t, tcpErrors) }

func tcpErrors(t *testing.T, path string) {
	const denied, allowed = 4001, 4002 // ports
	r := startOn(t, path, func(cfg *attach.Config) {
		for _, f := range attachtest.Families() {
			cfg.Rules = append(cfg.Rules, policy.Rule{
				Action: policy.Deny, Prefix: netip.PrefixFrom(f.PeerAddr, f.PeerAddr.BitLen()), PortLo: denied, PortHi: denied,
			})
		}
	})
	r.hurryNeighbours(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		plan := r.family(f)
		prohibited := map[bool]error{false: unix.EHOSTUNREACH, true: unix.EACCES}[f.Is6()]
		tests := []struct {
			name string
			dst  netip.AddrPort
			want error
			host error // what the host gets, nil where it would not fail alike
		}{
			{"refused", netip.AddrPortFrom(f.PeerAddr, allowed), unix.ECONNREFUSED, unix.ECONNREFUSED},
			{"host unreachable", netip.AddrPortFrom(f.Nobody, allowed), unix.EHOSTUNREACH, unix.EHOSTUNREACH},
			{"net unreachable", netip.AddrPortFrom(f.NoRoute, allowed), unix.ENETUNREACH, unix.ENETUNREACH},
			// A kernel makes EACCES of its own prohibiting route, and of the message
			// that says so: that of IPv4 has no errno but this one.
			{"prohibited", netip.AddrPortFrom(f.Prohibited, allowed), prohibited, unix.EACCES},
			{"denied by a rule", netip.AddrPortFrom(f.PeerAddr, denied), prohibited, nil},
			{"gateway", netip.AddrPortFrom(plan.Gateway, allowed), unix.ECONNREFUSED, nil},
			{"resolver, another port", netip.AddrPortFrom(plan.DNS, allowed), unix.ECONNREFUSED, nil},
			{"nobody in the plan", netip.AddrPortFrom(plan.DNS.Next(), allowed), unix.EHOSTUNREACH, nil},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				if _, err := r.c.Dial(t, "tcp", tt.dst); !errors.Is(err, tt.want) {
					t.Errorf("connect to %s in the container: %v, want %v", tt.dst, err, tt.want)
				}
				if tt.host == nil {
					return
				}
				if _, err := r.Host.Dial(t, "tcp", tt.dst); !errors.Is(err, tt.host) {
					t.Errorf("connect to %s on the host: %v, want %v", tt.dst, err, tt.host)
				}
			})
		}
	})
	// A kernel may try again before it gives up.
	for _, name := range []string{"refused_rule_deny", "refused_host_loopback_off", "refused_no_such_service", "connects_failed"} {
		if n := r.counter(t, name); n < 2 {
			t.Errorf("counter %s is %d, want at least one for each family", name, n)
		}
	}
}

// TestTCPHostLoopback reaches a server on the host's loopback by the gateway.
func TestTCPHostLoopback(t *testing.T) { paths(t, tcpHostLoopback) }

func tcpHostLoopback(t *testing.T, path string) {
	plan := newPlan(t)
	r := startOn(t, path, func(cfg *attach.Config) {
		cfg.HostLoopback = []policy.LoopbackAt{{Addr: plan.V4.Gateway}, {Addr: plan.V6.Gateway}}
	})
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.Host.Listen(t, netip.AddrPortFrom(f.Loopback, 0))
		p := r.connectTo(t, l, netip.AddrPortFrom(r.family(f).Gateway, l.Addr().(*net.TCPAddr).AddrPort().Port()))
		exchange(t, p.container, p.peer)
		if got := p.peer.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != f.Loopback {
			t.Errorf("the server sees a client at %s, want %s", got, f.Loopback)
		}
	})
}

// TestTCPOutbound leaves from a second address of the host.
func TestTCPOutbound(t *testing.T) { paths(t, tcpOutbound) }

func tcpOutbound(t *testing.T, path string) {
	w := attachtest.Open(t)
	second := map[string]netip.Prefix{
		"IPv4": netip.MustParsePrefix("10.97.0.9/32"), "IPv6": netip.MustParsePrefix("fd97::9/128"),
	}
	for _, p := range second {
		args := []string{"ip", "addr", "add", p.String(), "dev", "host0"}
		if p.Addr().Is6() {
			args = append(args, "nodad", "preferred_lft", "0") // never a default source
		}
		w.Host.Exec(t, args...)
		t.Cleanup(func() { w.Host.Exec(t, "ip", "addr", "del", p.String(), "dev", "host0") })
	}
	r := startOn(t, path, func(cfg *attach.Config) {
		cfg.Outbound.Addr4, cfg.Outbound.Addr6 = second["IPv4"].Addr(), second["IPv6"].Addr()
	})
	families(t, func(t *testing.T, f attachtest.Family) {
		p := r.connect(t, f)
		if got, want := p.peer.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(), second[f.Name].Addr(); got != want {
			t.Errorf("the peer sees a client at %s, want %s", got, want)
		}
	})
}
