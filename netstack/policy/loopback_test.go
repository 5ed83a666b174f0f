// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
)

// sameAddr compares addresses for cmp.
var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestParseLoopback(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("fd00::2")
	tests := []struct {
		name, in string
		want     []policy.LoopbackAt
	}{
		{"address", "10.0.2.2", []policy.LoopbackAt{{Addr: v4}}},
		{"v6 address", "fd00::2", []policy.LoopbackAt{{Addr: v6}}},
		{"v6 address in brackets", "[fd00::2]", []policy.LoopbackAt{{Addr: v6}}},
		{"protocol", "10.0.2.2/udp", []policy.LoopbackAt{{Addr: v4, Proto: policy.UDP}}},
		{"v6 protocol", "fd00::2/tcp", []policy.LoopbackAt{{Addr: v6, Proto: policy.TCP}}},
		{"any", "10.0.2.2/any", []policy.LoopbackAt{{Addr: v4}}},
		{"port", "10.0.2.2:5432", []policy.LoopbackAt{{Addr: v4, PortLo: 5432, PortHi: 5432}}},
		{"port and protocol", "[fd00::2]:5432/tcp", []policy.LoopbackAt{{Addr: v6, PortLo: 5432, PortHi: 5432, Proto: policy.TCP}}},
		{"range", "10.0.2.2:80-90", []policy.LoopbackAt{{Addr: v4, PortLo: 80, PortHi: 90}}},
		{"host port", "10.0.2.2:80=8080", []policy.LoopbackAt{{Addr: v4, PortLo: 80, PortHi: 80, HostPort: 8080}}},
		{"the same host port", "10.0.2.2:80=80", []policy.LoopbackAt{{Addr: v4, PortLo: 80, PortHi: 80}}},
		{"last host port", "10.0.2.2:1-65535=1", []policy.LoopbackAt{{Addr: v4, PortLo: 1, PortHi: 65535}}},
		{"list", "10.0.2.2:80-82=8080,5432/tcp", []policy.LoopbackAt{
			{Addr: v4, PortLo: 80, PortHi: 82, HostPort: 8080, Proto: policy.TCP},
			{Addr: v4, PortLo: 5432, PortHi: 5432, Proto: policy.TCP},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := policy.ParseLoopback(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, sameAddr); diff != "" {
				t.Errorf("ParseLoopback(%q) (-want +got):\n%s", tt.in, diff)
			}
		})
	}
}

func TestParseLoopbackRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", "not an IP address"},
		{"name", "gateway", "gateway"},
		{"two addresses", "10.0.2.2,fd00::2", "not an IP address"},
		{"network", "10.0.2.0/24", "not an IP address"},
		{"icmp", "10.0.2.2/icmp", "tcp, udp or any"},
		{"unknown protocol", "10.0.2.2/sctp", "sctp"},
		{"no port", "10.0.2.2:", "no ports"},
		{"port 0", "10.0.2.2:0", "1 to 65535"},
		{"port too large", "10.0.2.2:70000", "70000"},
		{"range backwards", "10.0.2.2:90-80", "backwards"},
		{"list that ends early", "10.0.2.2:80,", `""`},
		{"no host port", "10.0.2.2:80=", `""`},
		{"host port 0", "10.0.2.2:80=0", "1 to 65535"},
		{"host port without port", "10.0.2.2=80", "not an IP address"},
		{"host range", "10.0.2.2:80-90=8080-8090", "8080-8090"},
		{"host ports beyond the last", "10.0.2.2:80-90=65530", "65535"},
		{"v6 port without brackets", "fd00::2:80=8080", "not an IP address"},
		{"zone", "fe80::1%tap0", "zone"},
		{"v4 in v6", "::ffff:10.0.2.2", "write it as 10.0.2.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := policy.ParseLoopback(tt.in)
			if err == nil {
				t.Fatalf("ParseLoopback(%q) = %+v, want an error", tt.in, got)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseLoopback(%q): %v, want %q in it", tt.in, err, tt.want)
			}
		})
	}
}

// TestSeenAs turns round what Decide does.
func TestSeenAs(t *testing.T) {
	plan := mustPlan(t, tap.DefaultCIDR4, tap.DefaultCIDR6)
	p := mustPolicy(t, policy.Config{Plan: plan, HostLoopback: mustLoopback(t,
		"10.0.2.9:60000-60010=1", "10.0.2.8:5432/tcp", "10.0.2.7/udp", "[fd00::2]:80=8080")})
	tests := []struct {
		proto      uint8
		host, want string
	}{
		{tcp, "127.0.0.1:1", "10.0.2.9:60000"},
		{udp, "127.0.0.1:11", "10.0.2.9:60010"},
		{udp, "127.0.0.1:12", "10.0.2.7:12"},
		{udp, "127.0.0.1:65535", "10.0.2.7:65535"},
		{tcp, "127.0.0.1:65535", "10.0.2.2:65535"},
		{tcp, "127.0.0.1:5432", "10.0.2.8:5432"},
		{udp, "127.0.0.1:5432", "10.0.2.7:5432"},
		{udp, "127.1.2.3:5432", "10.0.2.7:5432"},
		{tcp, "[::1]:8080", "[fd00::2]:80"},
		{tcp, "[::1]:80", "[fd00::2]:80"},
		{icmp, "127.0.0.1:0", "10.0.2.2:0"},
		{udp, "192.0.2.1:1", "192.0.2.1:1"},
	}
	for _, tt := range tests {
		if got, want := p.SeenAs(tt.proto, netip.MustParseAddrPort(tt.host)), netip.MustParseAddrPort(tt.want); got != want {
			t.Errorf("SeenAs(%d, %s) = %v, want %v", tt.proto, tt.host, got, want)
		}
	}
	want := []netip.Addr{netip.MustParseAddr("10.0.2.9"), netip.MustParseAddr("10.0.2.8"), netip.MustParseAddr("10.0.2.7"), netip.MustParseAddr("fd00::2")}
	if got := p.Served(); !slices.Equal(got, want) {
		t.Errorf("Served() = %v, want %v", got, want)
	}
}

func FuzzParseLoopback(f *testing.F) {
	for _, s := range []string{"10.0.2.2", "[fd00::2]:80-90=8080/tcp", "10.0.2.2:80=8080,5432,1-65535/udp", "fd00::2/any"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ls, err := policy.ParseLoopback(s)
		if err != nil {
			return
		}
		if len(ls) == 0 {
			t.Fatalf("ParseLoopback(%q) is empty", s)
		}
		for _, l := range ls {
			again, err := policy.ParseLoopback(l.String())
			if err != nil || len(again) != 1 || again[0] != l {
				t.Fatalf("ParseLoopback(%q): %+v is written %q, which parses as %+v, %v", s, l, l, again, err)
			}
		}
	})
}
