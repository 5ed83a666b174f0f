// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// loopbackRig is a rig whose container's loopback is this machine's.
func loopbackRig(t testing.TB, cfg func(*Config)) *rig {
	t.Helper()
	var made []tap.File
	for _, s := range LoopbackSockets() {
		fd, err := unix.Socket(s.Domain, s.Type|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, s.Protocol)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		made = append(made, tap.File{FD: fd})
	}
	return newRig(t, options{raw: true, cfg: func(c *Config) {
		var err error
		c.Loopback, err = NewLoopback(made)
		must(t, err)
		if cfg != nil {
			cfg(c)
		}
	}})
}

// loopbackService listens at 127.0.0.1.
func loopbackService(t testing.TB) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// publishLoopback publishes the service's port at the address.
func (r *rig) publishLoopback(id int, host string, service netip.AddrPort) netip.AddrPort {
	r.t.Helper()
	return r.publish(netip.MustParseAddrPort(host), Inbound{ID: id, Loopback: true, Container: netip.AddrPortFrom(netip.Addr{}, service.Port())})
}

// hear reads one datagram, and whom it is from.
func hear(t testing.TB, c *net.UDPConn) ([]byte, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 1<<16)
	n, from, err := c.ReadFromUDPAddrPort(b)
	must(t, err)
	return b[:n], from
}

// Clients of two ports and both families come to one service, which tells them apart.
func TestInboundLoopbackUDP(t *testing.T) {
	r := loopbackRig(t, nil)
	service, at := loopbackService(t)
	hosts := []netip.AddrPort{r.publishLoopback(1, "[::]:0", at), r.publishLoopback(2, "127.0.0.1:0", at)}
	seen := make(map[netip.AddrPort]bool)
	for i, addr := range []netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), hosts[0].Port()),
		netip.AddrPortFrom(netip.IPv6Loopback(), hosts[0].Port()),
		hosts[1],
	} {
		c, _ := client(t, addr)
		var first netip.AddrPort
		for _, size := range []int{0, 1, 1400, 9000, maxDatagram} {
			want := random(size)
			_, err := c.Write(want)
			must(t, err)
			got, from := hear(t, service)
			if !bytes.Equal(got, want) {
				t.Errorf("%v: the service got %d other bytes, want %d", addr, len(got), size)
			}
			if !first.IsValid() {
				first = from
			}
			if from != first {
				t.Errorf("%v: the client appears as %v, and before as %v", addr, from, first)
			}
			_, err = service.WriteToUDPAddrPort(want, from)
			must(t, err)
			if got, _ := hear(t, c); !bytes.Equal(got, want) {
				t.Errorf("%v: the client got %d other bytes, want %d", addr, len(got), size)
			}
		}
		if !first.Addr().IsLoopback() || seen[first] {
			t.Errorf("client %d appears as %v, want a loopback address of its own", i, first)
		}
		seen[first] = true
	}
	for _, f := range r.net.Flows(context.Background()) {
		if f.Path != PathLoopback || f.State != "open" || f.Direction != DirectionIn || f.BytesUp != f.BytesDown || f.Container != at || !seen[f.Remote] {
			t.Errorf("flow %+v", f)
		}
	}
}

// Datagrams that come together keep their bounds.
func TestInboundLoopbackUDPBatch(t *testing.T) {
	r := loopbackRig(t, nil)
	service, at := loopbackService(t)
	c, _ := client(t, r.publishLoopback(1, "127.0.0.1:0", at))
	sizes := []int{100, 100, 100, 40, 100, 300, 300, 0, 100}
	check := func(from *net.UDPConn) (last netip.AddrPort) {
		for i, n := range sizes {
			got, who := hear(t, from)
			if last = who; !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, n)) {
				t.Fatalf("datagram %d: got %d bytes, want %d", i, len(got), n)
			}
		}
		return last
	}
	together := func(write func([]byte) error) {
		r.on(func() { // so that they wait for it
			for i, n := range sizes {
				if err := write(bytes.Repeat([]byte{byte(i)}, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	together(func(b []byte) error { _, err := c.Write(b); return err })
	from := check(service)
	together(func(b []byte) error { _, err := service.WriteToUDPAddrPort(b, from); return err })
	check(c)
}

// What others in the container send to the socket reaches no client.
func TestInboundLoopbackUDPForged(t *testing.T) {
	r := loopbackRig(t, nil)
	service, at := loopbackService(t)
	c, _ := client(t, r.publishLoopback(1, "127.0.0.1:0", at))
	_, err := c.Write([]byte("hello"))
	must(t, err)
	_, from := hear(t, service)
	other, _ := loopbackService(t)
	for _, forged := range []struct {
		by *net.UDPConn
		to netip.AddrPort
	}{
		{other, from},
		{service, netip.AddrPortFrom(from.Addr().Next(), from.Port())},
		{service, netip.AddrPortFrom(loopback4(), from.Port())},
	} {
		before := r.counter("drop_spoofed")
		_, err := forged.by.WriteToUDPAddrPort([]byte("forged"), forged.to)
		must(t, err)
		eventually(func() bool { return r.counter("drop_spoofed") > before })
	}
	_, err = service.WriteToUDPAddrPort([]byte("answer"), from)
	must(t, err)
	if got, _ := hear(t, c); string(got) != "answer" {
		t.Errorf("the client got %q", got)
	}
}

// Where nobody listens the client hears so, and others go on.
func TestInboundLoopbackUDPRefused(t *testing.T) {
	r := loopbackRig(t, nil)
	service, at := loopbackService(t)
	gone, nobody := loopbackService(t)
	gone.Close()
	good, _ := client(t, r.publishLoopback(1, "[::]:0", at))
	bad, _ := client(t, r.publishLoopback(2, "127.0.0.1:0", nobody))
	_, err := bad.Write([]byte("anybody there?"))
	must(t, err)
	r.refuseAtLoopback6(nobody.Port(), 1)
	eventually(func() bool { return len(r.net.Flows(context.Background())) == 0 && r.counter("flows_udp_in") == 2 })
	_, _ = bad.Write([]byte("hello?")) // the error may be there before it returns
	if _, err := bad.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("client reads: %v, want %v", err, unix.ECONNREFUSED)
	}
	r.on(func() { r.net.inbound.listeners[2].udp.listen() })
	_, err = bad.Write([]byte("again")) // whose error comes with what follows
	must(t, err)
	_, err = good.Write([]byte("hello"))
	must(t, err)
	got, from := hear(t, service)
	_, err = service.WriteToUDPAddrPort(got, from)
	must(t, err)
	if got, _ := hear(t, good); string(got) != "hello" {
		t.Errorf("the other client got %q", got)
	}
}

// A flood of clients takes up no more flows than other ports' do.
func TestInboundLoopbackUDPFlood(t *testing.T) {
	const limit = 64
	r := loopbackRig(t, func(c *Config) { c.MaxFlows = limit })
	service, at := loopbackService(t)
	r.publishLoopback(1, "127.0.0.1:0", at)
	p := r.port()
	r.on(func() {
		p.n.inbound.inlets[0].next = netip.MustParseAddr("127.255.255.250") // soon those are used up
		for i := range 1000 {
			p.arrive(fmt.Sprintf("198.51.100.1:%d", 1+i), "127.0.0.1", "x")
		}
		p.n.pending.flush()
		if n := len(p.clients); n != limit/unansweredShare {
			t.Errorf("%d clients, want %d", n, limit/unansweredShare)
		}
		for _, f := range p.clients {
			if a := f.remote.Addr(); a.Less(p.n.inbound.inlets[0].first) || !a.Less(p.n.inbound.inlets[0].past) {
				t.Errorf("a client appears as %v", a)
			}
		}
	})
	if _, from := hear(t, service); !from.Addr().IsLoopback() {
		t.Errorf("the service heard %v", from)
	}
}

// Withdrawing the port ends its clients, and another may follow.
func TestInboundLoopbackUDPWithdrawn(t *testing.T) {
	r := loopbackRig(t, nil)
	service, at := loopbackService(t)
	for range 2 {
		c, _ := client(t, r.publishLoopback(1, "127.0.0.1:0", at))
		_, err := c.Write([]byte("hello"))
		must(t, err)
		_, from := hear(t, service)
		r.net.Withdraw(t.Context(), []int{1}, false)
		if fs := r.net.Flows(context.Background()); len(fs) != 0 {
			t.Errorf("flows of a port that is gone: %+v", fs)
		}
		before := r.counter("drop_spoofed")
		_, err = service.WriteToUDPAddrPort([]byte("too late"), from)
		must(t, err)
		eventually(func() bool { return r.counter("drop_spoofed") > before })
	}
}

func TestLoopbackOpen(t *testing.T) {
	if _, err := NewLoopback([]tap.File{{FD: -1, Err: unix.EPERM}, {}}); !errors.Is(err, unix.EPERM) {
		t.Errorf("of no socket: %v, want %v", err, unix.EPERM)
	}
	l, err := NewLoopback([]tap.File{{FD: -1}, {FD: -1}})
	must(t, err)
	if err := l.Open(); !errors.Is(err, unix.EBADF) {
		t.Errorf("Open: %v, want %v", err, unix.EBADF)
	}
}

// BenchmarkInboundLoopbackUDP carries a client's datagrams to a service that does not
// read them.
func BenchmarkInboundLoopbackUDP(b *testing.B) {
	r := loopbackRig(b, nil)
	service, at := loopbackService(b)
	must(b, service.SetReadBuffer(1))
	c, _ := client(b, r.publishLoopback(1, "127.0.0.1:0", at))
	raw, err := c.SyscallConn()
	must(b, err)
	p := r.port()
	r.on(func() { r.net.loop.Remove(p.FD, p.token) }) // the benchmark calls it
	r.perDatagram(b, func(size int) func() {
		payload := make([]byte, size)
		return func() {
			_ = raw.Control(func(fd uintptr) { _, err = unix.Write(int(fd), payload) })
		}
	}, p.receive)
	must(b, err)
}
