// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// endedSocket returns a socket of a connection that has ended at both ends.
func endedSocket(t *testing.T, l *net.TCPListener) int {
	t.Helper()
	at := l.Addr().(*net.TCPAddr).AddrPort().Addr()
	fd, err := Outbound{}.socket(at, unix.SOCK_STREAM, 0)
	must(t, err)
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	c := connectTo(t, fd, l)
	// The peer closes first, so that the name is in TIME_WAIT there.
	must(t, c.Close())
	shutdownWrite(fd)
	eventually(func() bool { return socketState(fd) == unix.BPF_TCP_CLOSE })
	return fd
}

// freePort returns a name that nobody has.
func freePort(t *testing.T, a netip.Addr) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// A socket that is kept for a destination has its name, time and again, and is nobody
// else's.
func TestMeetingsKeep(t *testing.T) {
	for _, a := range []netip.Addr{loopback4(), netip.IPv6Loopback()} {
		t.Run(a.String(), func(t *testing.T) {
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
			must(t, err)
			defer l.Close()
			to := freePort(t, a)
			var m meetings
			defer m.close()
			fd := endedSocket(t, l)
			if !m.keep(fd, to, false) {
				t.Fatal("it was not kept")
			}
			if _, ok := m.take(netip.AddrPortFrom(a, to.Port()+1)); ok {
				t.Error("it was taken for another destination")
			}
			got, ok := m.take(to)
			if !ok || got != fd || m.kept != 0 {
				t.Fatalf("took %d, %v, with %d left, want %d and none", got, ok, m.kept, fd)
			}
			c := connectTo(t, fd, l)
			if from := c.RemoteAddr().(*net.TCPAddr).AddrPort(); from != to {
				t.Errorf("it connects from %s, want %s", from, to)
			}
			if m.keep(fd, to, true) {
				t.Fatal("one that is connected was kept")
			}
			must(t, c.Close())
			shutdownWrite(fd)
			eventually(func() bool { return socketState(fd) == unix.BPF_TCP_CLOSE })
			if !m.keep(fd, to, true) {
				t.Fatal("it was not kept again")
			}
		})
	}
}

// Only what is connected to again and again is worth a socket, and not for long.
func TestMeetingsExpire(t *testing.T) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback4(), 0)))
	must(t, err)
	defer l.Close()
	to, other := freePort(t, loopback4()), netip.MustParseAddrPort("127.0.0.1:1")
	var m meetings
	defer m.close()
	if m.wants(to, 0) {
		t.Error("one is wanted after the first connection")
	}
	if !m.wants(to, 0) || m.wants(other, 0) {
		t.Error("one is wanted for the destination that was connected to twice, and it alone")
	}
	if !m.keep(endedSocket(t, l), to, false) {
		t.Fatal("it was not kept")
	}
	m.expire() // it has just come
	if m.kept != 1 || !m.wants(to, 0) {
		t.Errorf("%d are left, want 1, and more to be wanted", m.kept)
	}
	m.expire()
	if m.kept != 0 || len(m.points) != 0 {
		t.Errorf("%d are left at %d destinations, want none", m.kept, len(m.points))
	}
	if l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(to)); err != nil {
		t.Error("the destination's name is still taken:", err)
	} else {
		l.Close()
	}
}

// Where ports below 1024 are not ours to bind to, destinations there are left alone.
func TestMeetingsLowPorts(t *testing.T) {
	var m meetings
	low, high := netip.AddrPortFrom(loopback4(), lowPorts-1), netip.AddrPortFrom(loopback4(), lowPorts)
	for _, to := range []netip.AddrPort{low, high} {
		if m.wants(to, 0) || !m.wants(to, 0) {
			t.Errorf("none are wanted for %s", to)
		}
	}
	m.high = true
	if m.wants(low, 0) || !m.wants(high, 0) {
		t.Errorf("want none for %s, and one for %s", low, high)
	}
}

// Destinations are remembered in bounds, sockets kept in bounds, and neither after a
// meeting that failed.
func TestMeetingsBounds(t *testing.T) {
	var m meetings
	for i := range maxRegulars {
		m.wants(netip.AddrPortFrom(loopback4(), uint16(i+1)), 0)
	}
	m.wants(netip.AddrPortFrom(loopback4(), 0), 0)
	if len(m.regulars) != maxRegulars {
		t.Errorf("%d destinations are remembered, want %d", len(m.regulars), maxRegulars)
	}
	first := netip.AddrPortFrom(loopback4(), 1)
	m.kept = maxMeeting
	if m.wants(first, 0) {
		t.Errorf("one more than %d is wanted", maxMeeting)
	}
	m.kept = 0
	m.expire()
	m.wants(first, 0)
	m.failed(loopback4(), time.Second)
	if other := netip.AddrPortFrom(netip.IPv6Loopback(), 1); m.wants(other, 0) || !m.wants(other, 0) {
		t.Error("none are wanted of the other family")
	}
	if m.wants(first, time.Second+noMeeting-1) || !m.wants(first, time.Second+noMeeting) {
		t.Errorf("after a failure none are wanted for %v, and then again", noMeeting)
	}
}
