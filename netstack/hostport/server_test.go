// SPDX-License-Identifier: Apache-2.0

package hostport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/hostport"
	"golang.org/x/sys/unix"
)

// patience bounds a wait that would otherwise never end.
const patience = 60 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A rig is a Server with one listener, which leads to a port of the loopback.
type rig struct {
	at   string // where clients connect to
	stop func() error
}

// serve starts a Server until the test ends.
func serve(t *testing.T, to netip.AddrPort) *rig {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	f, err := l.File()
	must(t, err)
	t.Cleanup(func() { f.Close() })
	fd := int(f.Fd())
	must(t, unix.SetNonblock(fd, true)) // which Fd undoes
	r := &rig{at: l.Addr().String()}
	must(t, l.Close())
	s, err := hostport.New([]hostport.Listener{{FD: fd, To: to}})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return errors.Join(<-ran, s.Close(), s.Close())
	}
	t.Cleanup(func() { must(t, r.stop()) })
	return r
}

func listen(t *testing.T, at string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", at)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func addr(l *net.TCPListener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// connect returns a client, which is led by now or refused.
func (r *rig) connect(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", r.at)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// refusal connects a client that is not wanted, and returns what tells it so: the reset can
// be there before the client has looked at its own connect(2).
func (r *rig) refusal() error {
	c, err := net.Dial("tcp", r.at)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

func accept(t *testing.T, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	must(t, l.SetDeadline(time.Now().Add(patience)))
	c, err := l.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// ends connects a client, and returns both ends, the client's first or last.
func (r *rig) ends(t *testing.T, l *net.TCPListener, clientFirst bool) (first, second *net.TCPConn) {
	t.Helper()
	c := r.connect(t)
	h := accept(t, l)
	if clientFirst {
		return c, h
	}
	return h, c
}

// openFDs counts the process's descriptors.
func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// TestHalfClose has each end say that it sends no more, and the other one go on.
func TestHalfClose(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	r := serve(t, addr(l))
	for _, clientFirst := range []bool{true, false} {
		first, second := r.ends(t, l, clientFirst)
		sent := make([]byte, 1<<20)
		go func() {
			first.Write(sent)
			first.CloseWrite()
		}()
		got, err := io.ReadAll(second)
		if err != nil || len(got) != len(sent) {
			t.Fatalf("%d bytes, %v, want %d", len(got), err, len(sent))
		}
		if _, err := second.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		second.Close()
		if got, err := io.ReadAll(first); err != nil || string(got) != "late" {
			t.Fatalf("behind the end: %q, %v", got, err)
		}
	}
}

// TestReset passes resets on, both ways, and tells of a service that is not there by one.
func TestReset(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	r := serve(t, addr(l))
	for _, clientFirst := range []bool{true, false} {
		first, second := r.ends(t, l, clientFirst)
		must(t, first.SetLinger(0))
		must(t, first.Close())
		if _, err := second.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the other end: %v, want a reset", err)
		}
	}
	must(t, l.Close())
	if err := r.refusal(); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("of no service: %v, want a reset", err)
	}
}

// TestOtherFamily finds a service that listens at the other loopback only.
func TestOtherFamily(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
		t.Skip("this machine has no IPv6 loopback: ", err)
	}
	must(t, err)
	defer l.Close()
	r := serve(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr(l.(*net.TCPListener)).Port()))
	c := r.connect(t)
	accept(t, l.(*net.TCPListener)).Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
}

// TestClientsBound has as many clients as there may be at a time, which cost two
// descriptors each and no pipes when they are idle. The next one is served when one of
// them ends; all are gone with the Server.
func TestClientsBound(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	before := openFDs(t)
	r := serve(t, addr(l))
	var clients, hosts []*net.TCPConn
	for range hostport.MaxClients {
		c := r.connect(t)
		h := accept(t, l)
		// A way that has carried much, and is idle again.
		must(t, errOf(c.Write(make([]byte, 64<<10))))
		must(t, errOf(io.ReadFull(h, make([]byte, 64<<10))))
		clients, hosts = append(clients, c), append(hosts, h)
	}
	const each = 4    // two of ours, and the Server's two
	const extras = 64 // the listeners, the loop, pipes of the pool
	if n := openFDs(t) - before; n > each*hostport.MaxClients+extras {
		t.Errorf("%d clients take %d descriptors, want %d each", hostport.MaxClients, n, each)
	}
	late := r.connect(t)
	must(t, errOf(late.Write([]byte("late"))))
	must(t, errors.Join(clients[0].Close(), hosts[0].Close()))
	h := accept(t, l)
	got := make([]byte, 4)
	if _, err := io.ReadFull(h, got); err != nil || string(got) != "late" {
		t.Errorf("the one that waited: %q, %v", got, err)
	}
	must(t, r.stop())
	for _, c := range []*net.TCPConn{late, h, clients[1], hosts[1]} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("after the end: %v, want a reset", err)
		}
	}
}

func errOf(_ int, err error) error { return err }
