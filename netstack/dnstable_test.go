// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/dns"
	"golang.org/x/net/dns/dnsmessage"
)

// resolver starts a resolver on loopback that does with each query what answer says.
func resolver(t *testing.T, answer func(c *net.UDPConn, query []byte, from *net.UDPAddr)) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFromUDP(b)
			if err != nil {
				return
			}
			answer(c, b[:n], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func silent(*net.UDPConn, []byte, *net.UDPAddr) {}

// answering makes a resolver that answers with a code and no record.
func answering(code dnsmessage.RCode) func(*net.UDPConn, []byte, *net.UDPAddr) {
	return func(c *net.UDPConn, b []byte, from *net.UDPAddr) {
		b[2], b[3] = b[2]|0x80, b[3]&0xf0|byte(code)
		c.WriteToUDP(b, from)
	}
}

func TestDNSFirstServerFails(t *testing.T) {
	closed, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
	must(t, err)
	defer closed.Close() // keeps the port from others, and takes nothing
	ok := answering(dnsmessage.RCodeNameError)
	tests := []struct {
		name  string
		first netip.AddrPort
		want  dnsmessage.RCode
	}{
		{"silent", resolver(t, silent), dnsmessage.RCodeNameError},
		{"refused", closed.LocalAddr().(*net.UDPAddr).AddrPort(), dnsmessage.RCodeNameError},
		{"poor", resolver(t, answering(dnsmessage.RCodeServerFailure)), dnsmessage.RCodeNameError},
		{"garbage first", resolver(t, func(c *net.UDPConn, b []byte, from *net.UDPAddr) {
			c.WriteToUDP([]byte("garbage"), from)
			c.WriteToUDP(nil, from)
			answering(dnsmessage.RCodeSuccess)(c, b, from)
		}), dnsmessage.RCodeSuccess},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := dns.New(dns.Config{Upstream: []netip.AddrPort{tt.first, resolver(t, ok)}, Timeout: 400 * time.Millisecond})
			must(t, err)
			r := newRig(t, options{cfg: func(c *Config) { c.DNS = f }})
			c := r.packet(netip.AddrPortFrom(r.plan.V4.DNS, dnsPort), false)
			_, err = c.Write(dnsQuestion(t))
			must(t, err)
			b := make([]byte, 512)
			n, err := c.Read(b)
			must(t, err)
			var m dnsmessage.Message
			must(t, m.Unpack(b[:n]))
			if m.ID != 77 || m.RCode != tt.want {
				t.Errorf("answer %+v, want %v", m.Header, tt.want)
			}
			if got := waitingQueries(r); got != 0 {
				t.Errorf("%d queries still wait", got)
			}
		})
	}
}

// waitingQueries returns how many queries wait for the first server.
func waitingQueries(r *rig) int {
	n := make(chan int)
	r.net.loop.Post(func() { n <- r.net.dns.waiting.Len() })
	return <-n
}

// TestDNSEndsWithTheNetwork holds that queries without an answer leave nothing
// behind, and that there are no more of them than may be.
func TestDNSEndsWithTheNetwork(t *testing.T) {
	server := resolver(t, silent)
	f, err := dns.New(dns.Config{Upstream: []netip.AddrPort{server}, Timeout: time.Minute})
	must(t, err)
	before := openFiles(t)
	t.Run("network", func(t *testing.T) {
		r := newRig(t, options{raw: true, cfg: func(c *Config) { c.DNS = f }})
		const over = 10
		for range dns.DefaultMaxInFlight + over {
			r.send(r.datagram(6000, netip.AddrPortFrom(r.plan.V4.DNS, dnsPort), dnsQuestion(t)))
			r.settle()
		}
		if got := waitingQueries(r); got != dns.DefaultMaxInFlight {
			t.Errorf("%d queries wait, want %d", got, dns.DefaultMaxInFlight)
		}
		if got := r.counter("drop_no_answer"); got != over {
			t.Errorf("%d queries dropped, want %d", got, over)
		}
	})
	if after := openFiles(t); after > before {
		t.Errorf("%d descriptors are open, %d before", after, before)
	}
	if a, _ := f.Begin(dnsQuestion(t)); a == nil {
		t.Error("the queries that were given up still count")
	} else {
		a.Close()
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	es, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(es)
}
