// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestBandwidth moves more than a burst in each direction, by TCP on both paths and by
// UDP. It takes no less time than the rate says; that it does not take much longer
// shows in the log.
func TestBandwidth(t *testing.T) {
	w := attachtest.Open(t)
	const (
		in, out = 160_000_000, 80_000_000 // bits per second
		burst   = 800_000                 // bits
		size    = 4 << 20                 // bytes
	)
	for _, accel := range []string{"auto", "off"} {
		n := newNetwork(t, "1.0.0", map[string]any{"capabilities": map[string]bool{"bandwidth": true}, "accel": accel})
		c := attachtest.NewContainer(t)
		a := n.attachment(c, "eth0")
		a.rt.CapabilityArgs = map[string]any{"bandwidth": map[string]int{
			"ingressRate": in, "ingressBurst": burst, "egressRate": out, "egressBurst": burst,
		}}
		a.add(t)
		for _, f := range attachtest.Families() {
			for name, rate := range map[string]int{"in": in, "out": out} {
				// Both at once share the rate.
				from, to := [2]net.Conn{}, [2]net.Conn{}
				for i := range from {
					l := w.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
					here, err := c.Dial(t, "tcp", netip.MustParseAddrPort(l.Addr().String()))
					if err != nil {
						t.Fatal(err)
					}
					there, err := l.Accept()
					if err != nil {
						t.Fatal(err)
					}
					from[i], to[i] = there, here
					if name == "out" {
						from[i], to[i] = here, there
					}
				}
				took := transfer(t, from, to, size)
				// What the sockets between hold has not passed the bucket or was in the burst.
				least := time.Duration(float64(2*size*8-burst) / float64(rate) * float64(time.Second))
				t.Logf("accel %s, %s, %s: %d Mbit/s asked for, %.0f carried", accel, f.Name, name, rate/1e6, 2*size*8/took.Seconds()/1e6)
				if took < least*9/10 {
					t.Errorf("accel %s, %s, %s: %d bytes took %v, want at least %v", accel, f.Name, name, 2*size, took, least)
				}
			}
		}
		expectFlood(t, w, c, out, burst)
	}
}

// transfer sends size bytes by each connection and returns how long it takes until all
// have arrived.
func transfer(t *testing.T, from, to [2]net.Conn, size int64) time.Duration {
	t.Helper()
	begin := time.Now()
	done := make(chan error, len(to))
	for i := range to {
		go func() {
			_, err := io.CopyN(from[i], zeros{}, size)
			if err != nil {
				t.Error(err)
			}
		}()
		go func() {
			_, err := io.CopyN(io.Discard, to[i], size)
			done <- err
		}()
	}
	for range to {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(begin)
}

// zeros is an endless file of them.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// expectFlood has the container send datagrams as fast as it can. No more arrive than the
// rate allows, and a connection is made beside them.
func expectFlood(t *testing.T, w *attachtest.World, c *attachtest.Place, rate, burst int) {
	t.Helper()
	f := attachtest.Families()[0]
	u := w.Peer.ListenPacket(t, netip.AddrPortFrom(f.PeerAddr, 0))
	conn, err := c.Dial(t, "udp", netip.MustParseAddrPort(u.LocalAddr().String()))
	if err != nil {
		t.Fatal(err)
	}
	const datagrams, length = 20_000, 1400
	got := make(chan int)
	go func() {
		n, b := 0, make([]byte, 2*length)
		for {
			k, err := u.Read(b)
			if err != nil || k == 1 {
				got <- n
				return
			}
			n += k
		}
	}()
	begin := time.Now()
	b := make([]byte, length)
	for range datagrams {
		_, _ = conn.Write(b)
	}
	expectTraffic(t, c)
	took := time.Since(begin)
	// The last one, of a byte, says that all is over. It is sent until it comes.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_, _ = conn.Write(b[:1])
		select {
		case n := <-got:
			most := float64(rate)/8*(time.Since(begin)).Seconds() + float64(4*burst/8) + 256<<10
			t.Logf("datagrams: %.1f MB sent in %v, %.1f MB arrived", datagrams*length/1e6, took, float64(n)/1e6)
			if float64(n) > most {
				t.Errorf("%d bytes of datagrams arrived, want at most %.0f", n, most)
			}
			return
		case <-tick.C:
		}
	}
}
