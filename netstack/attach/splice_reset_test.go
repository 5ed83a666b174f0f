// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// TestSpliceResetAfterFIN resets a connection that is half-closed, while nothing
// is under way: the flow must not wait for bytes that do not come.
func TestSpliceResetAfterFIN(t *testing.T) {
	direct(t, resetAfterFIN)
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		ends(t, r, resetAfterFIN)
		r.noFlows(t)
	})
}

func resetAfterFIN(t *testing.T, a, b *net.TCPConn) {
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("read at the other end: %d, %v, want %v", n, err, io.EOF)
	}
	if err := errors.Join(a.SetLinger(0), a.Close()); err != nil {
		t.Fatal(err)
	}
	// A RST in CLOSE-WAIT is EPIPE (tcp_reset of net/ipv4/tcp_input.c).
	waitError(t, b, unix.EPIPE)
}

// TestSpliceWriteToClosed writes once to an end that was closed: its kernel
// answers with a RST, which the writer must see.
func TestSpliceWriteToClosed(t *testing.T) {
	direct(t, writeToClosed)
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		ends(t, r, writeToClosed)
		r.noFlows(t)
	})
}

func writeToClosed(t *testing.T, a, b *net.TCPConn) {
	a.Close()
	if n, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("read at the other end: %d, %v, want %v", n, err, io.EOF)
	}
	if _, err := b.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	waitError(t, b, unix.EPIPE)
}

// direct runs a test with the ends of a connection of the host's own: what it
// wants is what kernels do.
func direct(t *testing.T, test func(t *testing.T, a, b *net.TCPConn)) {
	w, f := attachtest.Open(t), attachtest.Families()[0]
	l := w.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
	t.Run("direct", func(t *testing.T) {
		c, err := w.Host.Dial(t, "tcp", tcpAddr(l.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		p, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		test(t, c.(*net.TCPConn), p)
	})
}

// waitError waits until the socket has the error.
func waitError(t testing.TB, c *net.TCPConn, want unix.Errno) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	attachtest.Eventually(t, "the socket has the error "+want.Error(), func() bool {
		got := 0
		_ = raw.Control(func(fd uintptr) { got, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) })
		if got != 0 && unix.Errno(got) != want {
			t.Fatalf("the socket has the error %v, want %v", unix.Errno(got), want)
		}
		return got != 0
	})
}
