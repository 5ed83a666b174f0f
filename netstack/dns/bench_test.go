// SPDX-License-Identifier: Apache-2.0

package dns_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack/dns"
)

// BenchmarkExchange asks a resolver on loopback, and one that is never reached
// since the query is refused before.
func BenchmarkExchange(b *testing.B) {
	s := newServer(b, "127.0.0.1", func(q []byte, _ bool) [][]byte { return [][]byte{reply(b, q, 7, nil)} })
	f := mustNew(b, dns.Config{Upstream: []netip.AddrPort{s.addr}})
	ask := query(b, 1, "example.com.")
	update := append([]byte(nil), ask...)
	update[2] |= 5 << 3 // the operation UPDATE (RFC 2136 §2.2)
	for name, q := range map[string][]byte{"forwarded": ask, "refused": update} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if f.Exchange(context.Background(), q, false) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}
