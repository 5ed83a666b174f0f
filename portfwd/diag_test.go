// SPDX-License-Identifier: Apache-2.0

package portfwd_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/portfwd"
)

// newDiag returns a Diag of our own network namespace, and its socket.
func newDiag(t testing.TB) (*portfwd.Diag, int) {
	t.Helper()
	so := portfwd.DiagSocket()
	fd, err := unix.Socket(so.Domain, so.Type|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, so.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	d, err := portfwd.NewDiag(fd)
	if err != nil {
		t.Fatal(err)
	}
	return d, fd
}

func listening(t testing.TB, d *portfwd.Diag) []portfwd.Listening {
	t.Helper()
	var all []portfwd.Listening
	if err := d.Listening(func(l portfwd.Listening) { all = append(all, l) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDiag finds sockets of all kinds that are services, and none that is not.
func TestDiag(t *testing.T) {
	wantIPv6(t)
	d, _ := newDiag(t)
	var want, unwanted []portfwd.Listening
	for _, tt := range []struct {
		network, at, local string
		both               bool
	}{
		{"tcp4", "127.0.0.1:0", "127.0.0.1", false},
		{"tcp4", "0.0.0.0:0", "0.0.0.0", false},
		{"tcp6", "[::]:0", "::", false},
		{"tcp", "[::]:0", "::", true},
	} {
		l, err := net.Listen(tt.network, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		want = append(want, portfwd.Listening{Proto: portfwd.TCP, Local: netip.AddrPortFrom(netip.MustParseAddr(tt.local), portOf(t, l.Addr())), Both: tt.both})
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		unwanted = append(unwanted, portfwd.Listening{Proto: portfwd.TCP, Local: netip.MustParseAddrPort(c.LocalAddr().String())})
	}
	for _, tt := range []struct {
		network, at, local string
		both               bool
	}{
		{"udp4", "127.0.0.1:0", "127.0.0.1", false},
		{"udp6", "[::1]:0", "::1", false},
		{"udp", "[::]:0", "::", true},
	} {
		c, err := net.ListenPacket(tt.network, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want = append(want, portfwd.Listening{Proto: portfwd.UDP, Local: netip.AddrPortFrom(netip.MustParseAddr(tt.local), portOf(t, c.LocalAddr())), Both: tt.both})
	}
	c, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	unwanted = append(unwanted, portfwd.Listening{Proto: portfwd.UDP, Local: netip.MustParseAddrPort(c.LocalAddr().String())})
	table, _ := newTable(t, 0)
	bound := add(t, table, "127.0.0.1%lo::80")[0]
	unwanted = append(unwanted, portfwd.Listening{Proto: portfwd.TCP, Local: bound.Host})

	got := listening(t, d)
	for _, l := range want {
		if !slices.Contains(got, l) {
			t.Errorf("%+v is missing", l)
		}
	}
	for _, l := range unwanted {
		if slices.ContainsFunc(got, func(g portfwd.Listening) bool { return g.Proto == l.Proto && g.Local == l.Local }) {
			t.Errorf("%+v is taken for a service", l)
		}
	}
}

// TestDiagMany reads more than fits into one datagram, after an answer that nobody
// has read.
func TestDiagMany(t *testing.T) {
	d, fd := newDiag(t)
	table, _ := newTable(t, 0)
	ports := add(t, table, fmt.Sprintf("127.0.0.1:0:1-%d", manyPorts))
	for range 2 {
		got := map[netip.AddrPort]bool{}
		for _, l := range listening(t, d) {
			got[l.Local] = true
		}
		for _, p := range ports {
			if !got[p.Host] {
				t.Fatalf("%v is missing among %d sockets", p.Host, len(got))
			}
		}
		if err := unix.Sendto(fd, []byte{16, 0, 0, 0, 0xff, 0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDiagOfNothing(t *testing.T) {
	if _, err := portfwd.NewDiag(-1); err == nil {
		t.Error("NewDiag without a socket succeeded")
	}
	d, fd := newDiag(t)
	// Not closed, since the number could be somebody else's next: turned off.
	if err := unix.Dup3(pipeEnd(t), fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := d.Listening(func(portfwd.Listening) {}); err == nil {
		t.Error("Listening at a pipe succeeded")
	}
}

func pipeEnd(t *testing.T) int {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0]
}

func BenchmarkDiag(b *testing.B) {
	for _, sockets := range []int{0, 100, manyPorts} {
		b.Run(fmt.Sprint(sockets), func(b *testing.B) {
			table, _ := newTable(b, 0)
			if sockets > 0 {
				add(b, table, fmt.Sprintf("127.0.0.1:0:1-%d", sockets))
			}
			d, _ := newDiag(b)
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Listening(func(portfwd.Listening) {}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
