// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// connectTo connects fd, which waits for it, to a listener, and returns both ends.
func connectTo(t *testing.T, fd int, l *net.TCPListener) net.Conn {
	t.Helper()
	must(t, unix.SetNonblock(fd, false))
	if errno := connectSocket(fd, l.Addr().(*net.TCPAddr).AddrPort()); errno != 0 {
		t.Fatal(errno)
	}
	c, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// A socket whose connection has ended makes another, which knows nothing of the first.
func TestSpareSockets(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
			must(t, err)
			defer l.Close()
			at := l.Addr().(*net.TCPAddr).AddrPort().Addr()
			var s spareSockets
			defer s.close()
			if _, known := s.take(at); known {
				t.Fatal("there is one before any was kept")
			}
			fd, err := Outbound{}.socket(at, unix.SOCK_STREAM, 0)
			must(t, err)
			first := connectTo(t, fd, l)
			_, err = first.Write([]byte("not read"))
			must(t, err)
			if s.keep(fd, at) {
				t.Fatal("one that is connected was kept")
			}
			shutdownWrite(fd)
			_, err = io.ReadAll(first)
			must(t, err)
			must(t, first.Close())
			// The end behind what nobody has read is there.
			eventually(func() bool { return socketState(fd) == unix.BPF_TCP_CLOSE })
			if !s.keep(fd, at) {
				t.Fatal("one whose connection has ended was not kept")
			}
			other := netip.IPv6Loopback()
			if at.Is6() {
				other = loopback4()
			}
			if _, known := s.take(other); known {
				t.Error("it is taken for the other family's")
			}
			again, known := s.take(at)
			if !known || again != fd {
				t.Fatalf("took %d, %v, want %d", again, known, fd)
			}
			second := connectTo(t, fd, l)
			_, err = second.Write([]byte("hello"))
			must(t, err)
			var b [64]byte
			if n, errno := read(fd, b[:]); errno != 0 || string(b[:n]) != "hello" {
				t.Errorf("read %q, %v", b[:n], errno)
			}
			closeFD(fd)
		})
	}
}

// They are few, and none for long.
func TestSpareSocketsExpire(t *testing.T) {
	var s spareSockets
	var fds []int
	for range maxSpareSockets + 1 {
		fd, err := Outbound{}.socket(loopback4(), unix.SOCK_STREAM, 0)
		must(t, err)
		fds = append(fds, fd)
	}
	for i, fd := range fds {
		if kept := s.keep(fd, loopback4()); kept != (i < maxSpareSockets) {
			t.Errorf("socket %d is kept: %v", i, kept)
		}
	}
	fd, _ := s.take(loopback4())
	s.expire() // one was used
	if len(s.fds[0]) != maxSpareSockets-1 {
		t.Errorf("%d are left, want %d", len(s.fds[0]), maxSpareSockets-1)
	}
	s.expire()
	if len(s.fds[0]) != 0 {
		t.Errorf("%d are left, want none", len(s.fds[0]))
	}
	if socketState(fds[0]) != 0 {
		t.Error("it is open")
	}
	closeFD(fd)
	closeFD(fds[maxSpareSockets])
}
