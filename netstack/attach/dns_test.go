// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/net/dns/dnsmessage"
)

// longName is the name whose answer does not fit into a datagram.
const longName = "long.example."

// serveDNS answers every TXT question at the address, over UDP and TCP, with the
// protocol it came by.
func serveDNS(t testing.TB, p *attachtest.Place, addr netip.AddrPort) {
	udp, tcp := p.ListenPacket(t, addr), p.Listen(t, addr)
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteToUDPAddrPort(answerDNS(buf[:n], "udp"), from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go answerTCP(c)
		}
	}()
}

// answerTCP answers the questions on a connection (RFC 1035 §4.2.2).
func answerTCP(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		a := answerDNS(query, "tcp")
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
			return
		}
	}
}

// answerDNS returns the answer to one question, nil if it makes no sense.
func answerDNS(query []byte, proto string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if q.Name.String() == longName && proto == "udp" {
		m.Truncated = true
	} else {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.TXTResource{TXT: []string{"by " + proto}},
		}}
	}
	a, err := m.Pack()
	if err != nil {
		return nil
	}
	return a
}

func TestDNS(t *testing.T) {
	attachtest.NeedTools(t, "dig")
	for _, upstream := range attachtest.Families() {
		t.Run("upstream "+upstream.Name, func(t *testing.T) {
			server := netip.AddrPortFrom(upstream.PeerAddr, 5353)
			serveDNS(t, attachtest.Open(t).Peer, server)
			r := start(t, func(cfg *attach.Config) { cfg.DNS = []netip.AddrPort{server} })
			families(t, func(t *testing.T, f attachtest.Family) {
				for _, tt := range []struct {
					name string
					args []string
					want string
				}{
					{"UDP", []string{"short.example."}, `"by udp"`},
					{"TCP", []string{"+tcp", "short.example."}, `"by tcp"`},
					{"truncated", []string{longName}, `"by tcp"`},
				} {
					t.Run(tt.name, func(t *testing.T) {
						args := []string{"dig", "+short", "+tries=1", "+timeout=10", "@" + r.family(f).DNS.String(), "TXT"}
						out := r.c.Exec(t, append(args, tt.args...)...)
						lines := strings.Split(strings.TrimSpace(out), "\n")
						if got := lines[len(lines)-1]; got != tt.want {
							t.Errorf("answer %q, want %q", out, tt.want)
						}
					})
				}
			})
		})
	}
}

// TestDNSFailover asks a resolver that does not answer first.
func TestDNSFailover(t *testing.T) {
	attachtest.NeedTools(t, "dig")
	f := attachtest.Families()[0]
	server := netip.AddrPortFrom(f.PeerAddr, 5353)
	serveDNS(t, attachtest.Open(t).Peer, server)
	r := start(t, func(cfg *attach.Config) {
		cfg.DNS = []netip.AddrPort{netip.AddrPortFrom(f.PeerAddr, 5354), server} // refused
	})
	out := r.c.Exec(t, "dig", "+short", "+tries=1", "+timeout=10", "@"+r.plan.V4.DNS.String(), "TXT", "short.example.")
	if got := strings.TrimSpace(out); got != `"by udp"` {
		t.Errorf("answer %q, want that of the second resolver", got)
	}
}

// TestNoDNS has nobody at the resolver's address.
func TestNoDNS(t *testing.T) {
	attachtest.NeedTools(t, "dig")
	r := start(t, func(cfg *attach.Config) { cfg.NoDNS = true })
	families(t, func(t *testing.T, f attachtest.Family) {
		out, code := r.c.Run(t, "dig", "+tries=1", "+timeout=10", "@"+r.family(f).DNS.String(), "short.example.")
		if code == 0 || !strings.Contains(out, "refused") {
			t.Errorf("dig: exit code %d, want a refusal: %s", code, out)
		}
	})
}
