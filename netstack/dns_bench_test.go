// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
)

// BenchmarkDNS measures a query from frame to frame, with a resolver on loopback
// that answers at once. CPU/op is what the whole process takes, resolver and
// container included.
func BenchmarkDNS(b *testing.B) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(b, err)
	defer server.Close()
	go echoDNS(server)
	for _, atOnce := range []int{1, 16} {
		b.Run("at once="+strconv.Itoa(atOnce), func(b *testing.B) {
			r := newRig(b, options{raw: true, dns: []netip.AddrPort{netip.MustParseAddrPort(server.LocalAddr().String())}})
			frame := r.datagram(6000, netip.AddrPortFrom(r.plan.V4.DNS, dnsPort), dnsQuestion(b))
			isAnswer := func(f []byte) bool { return len(f) == len(frame) }
			b.ReportAllocs()
			done := reportCPU(b)
			b.ResetTimer()
			sent := 0
			for sent < min(atOnce, b.N) {
				r.send(frame)
				sent++
			}
			for range b.N {
				r.next(isAnswer)
				if sent < b.N {
					r.send(frame)
					sent++
				}
			}
			done()
		})
	}
}
