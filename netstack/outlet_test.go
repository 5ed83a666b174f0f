// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzParseRecvCmsgs(f *testing.F) {
	c := cmsgs{b: make([]byte, 256)}
	c.source(&outlet{source: netip.MustParseAddr("192.0.2.1"), ttl: 9})
	c.source(&outlet{source: netip.MustParseAddr("2001:db8::1"), ttl: 9, ifindex: 3})
	c.int(unix.SOL_UDP, unix.UDP_GRO, 1400)
	f.Add(c.b[:c.n])
	f.Fuzz(func(t *testing.T, b []byte) {
		a := parseRecvCmsgs(b)
		if a.to.IsValid() && a.to.Is4In6() {
			t.Errorf("%v is not an address of its family", a.to)
		}
	})
}

// What is written as control messages is read as the same.
func TestCmsgs(t *testing.T) {
	for _, s := range []string{"192.0.2.1", "fe80::1"} {
		c := cmsgs{b: make([]byte, sendCmsgLen)}
		want := netip.MustParseAddr(s)
		c.source(&outlet{source: want, ttl: 9, tos: 0xff, ifindex: 3})
		c.segment(1400)
		a := parseRecvCmsgs(c.b[:c.n])
		if a.to != want || a.ttl != 9 || a.ifindex != 3*uint32(want.BitLen()/128) {
			t.Errorf("read %+v", a)
		}
	}
}
