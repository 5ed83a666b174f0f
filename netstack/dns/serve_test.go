// SPDX-License-Identifier: Apache-2.0

package dns_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-net/slipway/netstack/dns"
)

// serve lets f serve one end of a TCP connection and returns the other one, and
// the channel on which ServeTCP's error comes.
func serve(t *testing.T, ctx context.Context, f *dns.Forwarder) (*net.TCPConn, <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.ServeTCP(ctx, s) }()
	return c.(*net.TCPConn), done
}

func TestServeTCP(t *testing.T) {
	s := newServer(t, "127.0.0.1", good(t, 4))
	f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{s.addr}, Timeout: long})
	c, done := serve(t, t.Context(), f)
	const queries = 40 // more than may be in flight
	for id := range uint16(queries) {
		if err := writeTCP(c, query(t, id, "a.example.")); err != nil {
			t.Fatal(err)
		}
	}
	// What is in flight when the container has said all must still be answered.
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]bool{}
	for range queries {
		b, err := readTCP(c)
		if err != nil {
			t.Fatalf("after %d answers: %v", len(seen), err)
		}
		g := gistOf(t, b)
		if g.Octet != 4 || seen[g.ID] {
			t.Errorf("answer %+v is wrong or came twice", g)
		}
		seen[g.ID] = true
	}
	if _, err := readTCP(c); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v, want EOF", err)
	}
	if err := <-done; err != nil {
		t.Errorf("ServeTCP: %v", err)
	}
}

func TestServeTCPEndsWithContext(t *testing.T) {
	s := newServer(t, "127.0.0.1", silent)
	f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{s.addr}, Timeout: long})
	ctx, cancel := context.WithCancel(t.Context())
	c, done := serve(t, ctx, f)
	if err := writeTCP(c, query(t, 1, "a.example.")); err != nil {
		t.Fatal(err)
	}
	for s.queries.Load() == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ServeTCP: %v", err)
	}
}

func TestServeTCPGarbage(t *testing.T) {
	f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{closedPort(t)}})
	c, done := serve(t, t.Context(), f)
	if err := writeTCP(c, []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if b, err := readTCP(c); err == nil {
		t.Errorf("garbage was answered: % x", b)
	}
	if err := <-done; err != nil {
		t.Errorf("ServeTCP: %v", err)
	}
}

func TestServeTCPIdle(t *testing.T) {
	tests := []struct {
		name string
		sent []byte
	}{
		{"nothing sent", nil},
		{"half a length", []byte{0}},
		{"half a message", []byte{0, 30, 1, 2, 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}})
				ours, theirs := net.Pipe()
				start := time.Now()
				done := make(chan error, 1)
				go func() { done <- f.ServeTCP(t.Context(), theirs) }()
				if _, err := ours.Write(tt.sent); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Errorf("ServeTCP: %v", err)
				}
				if got := time.Since(start); got != dns.IdleTimeout {
					t.Errorf("closed after %v, want %v", got, dns.IdleTimeout)
				}
			})
		})
	}
}

func TestServeTCPMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}})
		done := make(chan error)
		for range dns.MaxConns {
			ours, theirs := net.Pipe()
			defer ours.Close()
			go func() { done <- f.ServeTCP(t.Context(), theirs) }()
		}
		synctest.Wait()
		_, theirs := net.Pipe()
		if err := f.ServeTCP(t.Context(), theirs); err != nil {
			t.Errorf("ServeTCP over the limit: %v", err)
		}
		if got := f.Stats().Dropped; got != 1 {
			t.Errorf("%d connections dropped, want 1", got)
		}
		for range dns.MaxConns {
			if err := <-done; err != nil {
				t.Errorf("ServeTCP: %v", err)
			}
		}
	})
}
