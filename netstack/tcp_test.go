// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// listen listens on the host's loopback and returns where the container finds it.
func listen(t testing.TB, loopback, gateway netip.Addr) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l, netip.AddrPortFrom(gateway, uint16(l.Addr().(*net.TCPAddr).Port))
}

// connect makes a connection from the container to a listener of the host and
// returns both ends.
func connect(t testing.TB, r *rig, loopback, gateway netip.Addr) (*gonet.TCPConn, *net.TCPConn) {
	t.Helper()
	l, addr := listen(t, loopback, gateway)
	inside, err := r.dial(addr)
	must(t, err)
	t.Cleanup(func() { inside.Close() })
	outside, err := l.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { outside.Close() })
	return inside, outside
}

func TestTCPCarriesBytesBothWays(t *testing.T) {
	offloads := map[string]tap.Offload{
		"all":      offloadAll,
		"checksum": tap.OffloadVNet | tap.OffloadCSum,
		"header":   tap.OffloadVNet,
	}
	for name, offload := range offloads {
		for _, mtu := range []int{1500, 65520} {
			r := newRig(t, options{offload: offload, mtu: mtu})
			for family, f := range families(r) {
				t.Run(name+"/"+family, func(t *testing.T) {
					inside, outside := connect(t, r, f.loopback, f.gateway)
					up, down := random(3<<20+17), random(5<<20+1)
					go func() { inside.Write(up); inside.CloseWrite() }()
					go func() { outside.Write(down); outside.CloseWrite() }()
					gotUp := make(chan [32]byte)
					go func() { gotUp <- sum(outside) }()
					if got := sum(inside); got != sha256.Sum256(down) {
						t.Error("the container got other bytes than the host sent")
					}
					if got := <-gotUp; got != sha256.Sum256(up) {
						t.Error("the host got other bytes than the container sent")
					}
				})
			}
		}
	}
}

func TestTCPHalfClose(t *testing.T) {
	r := newRig(t, options{})
	for family, f := range families(r) {
		t.Run(family+"/container first", func(t *testing.T) {
			inside, outside := connect(t, r, f.loopback, f.gateway)
			must(t, inside.CloseWrite())
			if b, err := io.ReadAll(outside); err != nil || len(b) != 0 {
				t.Fatalf("host read %q, %v; want EOF", b, err)
			}
			outside.Write([]byte("late"))
			outside.Close()
			if b, err := io.ReadAll(inside); err != nil || string(b) != "late" {
				t.Errorf("container read %q, %v", b, err)
			}
		})
		t.Run(family+"/host first", func(t *testing.T) {
			inside, outside := connect(t, r, f.loopback, f.gateway)
			must(t, outside.CloseWrite())
			if b, err := io.ReadAll(inside); err != nil || len(b) != 0 {
				t.Fatalf("container read %q, %v; want EOF", b, err)
			}
			inside.Write([]byte("late"))
			inside.Close()
			if b, err := io.ReadAll(outside); err != nil || string(b) != "late" {
				t.Errorf("host read %q, %v", b, err)
			}
		})
	}
}

func TestTCPReset(t *testing.T) {
	r := newRig(t, options{})
	for family, f := range families(r) {
		t.Run(family+"/by the host", func(t *testing.T) {
			inside, outside := connect(t, r, f.loopback, f.gateway)
			must(t, outside.SetLinger(0))
			outside.Close()
			if _, err := io.ReadAll(inside); err == nil || !strings.Contains(err.Error(), "reset") {
				t.Errorf("container read: %v; want a reset", err)
			}
		})
		t.Run(family+"/by the container", func(t *testing.T) {
			l, addr := listen(t, f.loopback, f.gateway)
			ep, wq := r.endpoint(addr)
			_ = wq
			outside, err := l.AcceptTCP()
			must(t, err)
			defer outside.Close()
			ep.Abort()
			if _, err := io.ReadAll(outside); !errors.Is(err, errReset) {
				t.Errorf("host read: %v; want a reset", err)
			}
		})
	}
}

func TestTCPRefusedAtOnce(t *testing.T) {
	r := newRig(t, options{})
	for family, f := range families(r) {
		t.Run(family, func(t *testing.T) {
			l, addr := listen(t, f.loopback, f.gateway)
			l.Close()
			if _, err := r.dial(addr); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("dial: %v; want refused", err)
			}
		})
	}
}

func TestTCPPolicyRefuses(t *testing.T) {
	r := newRig(t, options{})
	for dst, counter := range map[string]string{
		"169.254.1.1:80":        "refused_link_local",
		"169.254.169.254:80":    "refused_metadata",
		"127.0.0.1:80":          "refused_loopback",
		"[fd00:ec2::254]:80":    "refused_metadata",
		"[::ffff:127.0.0.1]:80": "refused_v4_mapped",
	} {
		t.Run(dst, func(t *testing.T) {
			before := r.counter(counter)
			r.synFrom(netip.MustParseAddrPort(dst))
			r.settle()
			if got := r.counter(counter) - before; got != 1 {
				t.Errorf("%s grew by %d, want 1", counter, got)
			}
		})
	}
}

func TestTCPPortReuse(t *testing.T) {
	r := newRig(t, options{})
	f := families(r)["IPv4"]
	l, addr := listen(t, f.loopback, f.gateway)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	for i := range 50 {
		var c *gonet.TCPConn
		eventually(func() (free bool) {
			var err error
			c, err = r.dialFrom(40000, addr)
			free = err == nil || !strings.Contains(err.Error(), "in use")
			if free && err != nil {
				t.Fatalf("connection %d from the same port: %v", i, err)
			}
			return free
		})
		want := []byte{byte(i)}
		c.Write(want)
		c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("connection %d: read %v, %v", i, got, err)
		}
		c.Close()
	}
}

func TestTCPSlowReaderStopsNobody(t *testing.T) {
	r := newRig(t, options{})
	f := families(r)["IPv4"]
	_, stuck := connect(t, r, f.loopback, f.gateway)
	go io.Copy(stuck, zeros{}) // nobody reads it in the container
	inside, outside := connect(t, r, f.loopback, f.gateway)
	for range 100 {
		outside.Write([]byte("ping"))
		var b [4]byte
		if _, err := io.ReadFull(inside, b[:]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTCPFlowsAreListed(t *testing.T) {
	r := newRig(t, options{})
	f := families(r)["IPv6"]
	inside, outside := connect(t, r, f.loopback, f.gateway)
	inside.Write([]byte("12345"))
	var b [5]byte
	_, err := io.ReadFull(outside, b[:])
	must(t, err)
	flows := r.net.Flows(context.Background())
	if len(flows) != 1 {
		t.Fatalf("%d flows, want 1: %v", len(flows), flows)
	}
	got := flows[0]
	port := uint16(outside.LocalAddr().(*net.TCPAddr).Port)
	want := FlowInfo{
		ID: got.ID, Proto: "tcp", Path: PathStacked, State: "open", Direction: DirectionOut,
		Container: netip.MustParseAddrPort(inside.LocalAddr().String()),
		Remote:    netip.AddrPortFrom(f.gateway, port),
		Host:      netip.AddrPortFrom(f.loopback, port),
		BytesUp:   5,
		Age:       got.Age, Idle: got.Idle, RTT: got.RTT,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("flow (-want +got):\n%s", diff)
	}
	inside.Close()
	outside.Close()
	eventually(func() bool { return len(r.net.Flows(context.Background())) == 0 })
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func sum(r io.Reader) [32]byte {
	h := sha256.New()
	io.Copy(h, r)
	return [32]byte(h.Sum(nil))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Most flows are over before anyone would miss their keep-alives: those that live
// for a tick get them, at both ends.
func TestTCPKeepAlive(t *testing.T) {
	r := newRig(t, options{})
	f := families(r)["IPv4"]
	connect(t, r, f.loopback, f.gateway)
	look := func() (host, container bool) {
		eventually(func() (ok bool) {
			r.on(func() {
				for _, flow := range r.net.tcp.flows {
					if ok = flow.state == open; ok {
						v, err := unix.GetsockoptInt(flow.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
						must(t, err)
						host, container = v == 1, flow.ep.SocketOptions().GetKeepAlive()
					}
				}
			})
			return ok
		})
		return host, container
	}
	look() // waits until it is open
	r.on(r.net.tcp.expire)
	if host, container := look(); !host || !container {
		t.Errorf("after a tick: keep-alive to the host %v, to the container %v", host, container)
	}
}

// Goroutines that wait for handshakes are as many as there were at once, and end
// with the Network.
func TestHandshakesShareGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("many connections", func(t *testing.T) {
		r := newRig(t, options{})
		f := families(r)["IPv4"]
		_, addr := listen(t, f.loopback, f.gateway)
		for range 20 {
			c, err := r.dial(addr)
			must(t, err)
			c.Close()
		}
		eventually(func() bool { return r.net.tcp.waiting.Load() > 0 })
		if n := r.net.tcp.waiting.Load(); n > 2 {
			t.Errorf("%d goroutines wait after handshakes one by one", n)
		}
	})
	eventually(func() bool { return runtime.NumGoroutine() <= before })
}

// A flow that both ends have closed leaves the table when gVisor is done with it,
// not with the next tick.
func TestTCPFinishedFlowLeavesAtOnce(t *testing.T) {
	r := newRig(t, options{})
	f := families(r)["IPv4"]
	const mark = 1 // what a tick sets to 0
	untouched := 0
	for range 20 {
		r.on(func() { r.net.evictions = mark })
		inside, outside := connect(t, r, f.loopback, f.gateway)
		inside.Close()
		outside.Close()
		eventually(func() (empty bool) {
			r.on(func() {
				empty = len(r.net.tcp.flows) == 0 && len(r.net.tcp.closing) == 0
				if empty && r.net.evictions == mark {
					untouched++
				}
			})
			return empty
		})
	}
	if untouched == 0 {
		t.Error("each of 20 flows stayed until a tick")
	}
}
