// SPDX-License-Identifier: Apache-2.0

package dns_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/dns"
	"golang.org/x/sys/unix"
)

// A way is one in which a query is asked. All must do the same.
type way struct {
	name     string
	exchange func(t *testing.T, ctx context.Context, f *dns.Forwarder, q []byte) []byte
}

var ways = []way{
	{"udp", func(_ *testing.T, ctx context.Context, f *dns.Forwarder, q []byte) []byte {
		return f.Exchange(ctx, q, false)
	}},
	{"tcp", func(_ *testing.T, ctx context.Context, f *dns.Forwarder, q []byte) []byte {
		return f.Exchange(ctx, q, true)
	}},
	{"attempt", attempt},
}

// attempt does what an event loop would.
func attempt(t *testing.T, ctx context.Context, f *dns.Forwarder, q []byte) []byte {
	a, answer := f.Begin(q)
	if a == nil {
		return answer
	}
	if a.FD() < 0 {
		return a.Resume(ctx)
	}
	room := make([]byte, dns.MaxAnswer)
	for deadline := time.Now().Add(f.Timeout()); ; {
		if !readable(t, a.FD(), time.Until(deadline)) {
			a.Expire()
			return a.Resume(ctx)
		}
		answer, waiting := a.Receive(room)
		switch {
		case waiting:
		case answer == nil:
			return a.Resume(ctx)
		default:
			a.Close()
			return answer
		}
	}
}

// readable waits for as long as d until there is something to read.
func readable(t *testing.T, fd int, d time.Duration) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(0, d.Milliseconds())))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
}

// TestSources holds that each query has a port of its own, and that nobody but the
// server can answer to it.
func TestSources(t *testing.T) {
	const queries = 64
	server, other := listen(t), listen(t)
	ports := make(chan uint16, queries)
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			ports <- from.Port()
			other.WriteToUDPAddrPort(reply(t, b[:n], 66, nil), from)
			server.WriteToUDPAddrPort(reply(t, b[:n], 7, nil), from)
		}
	}()
	f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{server.LocalAddr().(*net.UDPAddr).AddrPort()}, Timeout: long})
	for _, way := range ways {
		if way.name == "tcp" {
			continue
		}
		seen := map[uint16]bool{}
		for range queries {
			if g := gistOf(t, way.exchange(t, t.Context(), f, query(t, 1, "a.example."))); g.Octet != 7 {
				t.Fatalf("%s: answer %+v is not the server's", way.name, g)
			}
			seen[<-ports] = true
		}
		// Of 28,000 ports, drawn at random, hardly one comes twice.
		if len(seen) < queries/2 {
			t.Errorf("%s: %d queries came from %d ports", way.name, queries, len(seen))
		}
	}
}

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestPrepare holds that a socket is bound as Config says, if the server is not
// the host's own.
func TestPrepare(t *testing.T) {
	tests := []struct {
		name, server string
		domain       int
		want         string // empty: neither address nor Control
	}{
		{"v4", "192.0.2.1:53", unix.AF_INET, "127.0.0.9"},
		{"v6", "[2001:db8::1]:53", unix.AF_INET6, "::1"},
		{"loopback v4", "127.0.0.53:53", unix.AF_INET, ""},
		{"loopback v6", "[::1]:53", unix.AF_INET6, ""},
		{"unspecified", "0.0.0.0:53", unix.AF_INET, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fd, err := unix.Socket(tt.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			controlled := uintptr(0)
			f := mustNew(t, dns.Config{
				Upstream: []netip.AddrPort{netip.MustParseAddrPort(tt.server)},
				Control: func(_, address string, c syscall.RawConn) error {
					if address != tt.server {
						t.Errorf("Control is told %q, want %q", address, tt.server)
					}
					return c.Control(func(fd uintptr) { controlled = fd })
				},
				LocalAddr4: netip.MustParseAddr("127.0.0.9"),
				LocalAddr6: netip.IPv6Loopback(),
			})
			if err := f.Prepare(fd, netip.MustParseAddrPort(tt.server)); err != nil {
				t.Fatal(err)
			}
			if got := boundTo(t, fd); got != tt.want {
				t.Errorf("bound to %q, want %q", got, tt.want)
			}
			if got := controlled == uintptr(fd); got != (tt.want != "") {
				t.Errorf("Control called: %v, want %v", got, tt.want != "")
			}
		})
	}
}

// boundTo returns the address that a socket is bound to, or "".
func boundTo(t *testing.T, fd int) string {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	var a netip.Addr
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		a = netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		a = netip.AddrFrom16(sa.Addr)
	}
	if a.IsUnspecified() {
		return ""
	}
	return a.String()
}

// TestControlFails holds that no query leaves by a socket that could not be bound.
func TestControlFails(t *testing.T) {
	f := mustNew(t, dns.Config{
		Upstream: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")},
		Control:  func(string, string, syscall.RawConn) error { return unix.EPERM },
	})
	a, _ := f.Begin(query(t, 1, "a.example."))
	if a.FD() >= 0 {
		t.Errorf("socket %d is open", a.FD())
	}
	if g := gistOf(t, a.Resume(t.Context())); g.Code != 2 {
		t.Errorf("answer %+v, want SERVFAIL", g)
	}
	if got := f.Stats(); got.Failovers != 1 || got.Failed != 1 {
		t.Errorf("counters: %+v, want one server asked once", got)
	}
}

// TestBeginReadsNoFile holds that the file is left to Resume, which may block.
func TestBeginReadsNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, file, "nameserver 127.0.0.1\n")
	f := mustNew(t, dns.Config{ResolvConf: file, Timeout: short})
	now := time.Now()
	f.SetClock(func() time.Time { return now })
	write(t, file, "nameserver 127.0.0.2\n#\n")
	now = now.Add(2 * dns.StatInterval)
	a, _ := f.Begin(query(t, 1, "a.example."))
	if a.FD() >= 0 || f.Stats().Reloads != 0 {
		t.Errorf("socket %d, file read %d times; want neither", a.FD(), f.Stats().Reloads)
	}
	a.Resume(t.Context())
	if got := f.Stats().Reloads; got != 1 {
		t.Errorf("file read %d times by Resume, want once", got)
	}
}
