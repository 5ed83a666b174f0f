// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/policy"
)

func TestParseRule(t *testing.T) {
	pfx := netip.MustParsePrefix
	tests := []struct {
		name, in string
		want     policy.Rule
		str      string // empty: the same as in
	}{
		{"network", "10.0.0.0/8", policy.Rule{Prefix: pfx("10.0.0.0/8")}, ""},
		{"address", "10.1.2.3", policy.Rule{Prefix: pfx("10.1.2.3/32")}, ""},
		{"address with length", "10.1.2.3/32", policy.Rule{Prefix: pfx("10.1.2.3/32")}, "10.1.2.3"},
		{"all", "0.0.0.0/0", policy.Rule{Prefix: pfx("0.0.0.0/0")}, ""},
		{"network and protocol", "10.0.0.0/8/udp", policy.Rule{Prefix: pfx("10.0.0.0/8"), Proto: policy.UDP}, ""},
		{"address and protocol", "10.1.2.3/udp", policy.Rule{Prefix: pfx("10.1.2.3/32"), Proto: policy.UDP}, ""},
		{"everything", "10.0.0.0/8:443/tcp", policy.Rule{Prefix: pfx("10.0.0.0/8"), PortLo: 443, PortHi: 443, Proto: policy.TCP}, ""},
		{"range", "10.0.0.0/8:80-90", policy.Rule{Prefix: pfx("10.0.0.0/8"), PortLo: 80, PortHi: 90}, ""},
		{"range of one", "10.1.2.3:80-80", policy.Rule{Prefix: pfx("10.1.2.3/32"), PortLo: 80, PortHi: 80}, "10.1.2.3:80"},
		{"any", "10.1.2.3/any", policy.Rule{Prefix: pfx("10.1.2.3/32")}, "10.1.2.3"},
		{"icmp", "10.1.2.3/icmp", policy.Rule{Prefix: pfx("10.1.2.3/32"), Proto: policy.ICMP}, ""},
		{"v6 network", "fd00::/8", policy.Rule{Prefix: pfx("fd00::/8")}, ""},
		{"v6 network and protocol", "fd00::/8/udp", policy.Rule{Prefix: pfx("fd00::/8"), Proto: policy.UDP}, ""},
		{"v6 address and protocol", "fd00::1/tcp", policy.Rule{Prefix: pfx("fd00::1/128"), Proto: policy.TCP}, ""},
		{"v6 everything", "[fd00::/8]:80-90/tcp", policy.Rule{Prefix: pfx("fd00::/8"), PortLo: 80, PortHi: 90, Proto: policy.TCP}, ""},
		{"v6 address and port", "[fd00::1]:80", policy.Rule{Prefix: pfx("fd00::1/128"), PortLo: 80, PortHi: 80}, ""},
		{"v6 brackets alone", "[fd00::/8]/tcp", policy.Rule{Prefix: pfx("fd00::/8"), Proto: policy.TCP}, "fd00::/8/tcp"},
		{"v6 hexadecimal letters", "abcd::", policy.Rule{Prefix: pfx("abcd::/128")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := policy.ParseRule(policy.Deny, tt.in)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Action = policy.Deny
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("ParseRule(%q) (-want +got):\n%s", tt.in, diff)
			}
			str := tt.str
			if str == "" {
				str = tt.in
			}
			if got.String() != str {
				t.Errorf("String() = %q, want %q", got.String(), str)
			}
		})
	}
}

func TestParseRuleRefuses(t *testing.T) {
	tests := []struct{ name, in string }{
		{"empty", ""},
		{"only protocol", "/tcp"},
		{"only port", ":80"},
		{"name", "example.com"},
		{"unknown protocol", "10.0.0.0/8/sctp"},
		{"protocol twice", "10.0.0.0/8/tcp/udp"},
		{"protocol before port", "10.0.0.0/8/tcp:80"},
		{"upper case", "10.0.0.0/8/TCP"},
		{"host bits", "10.1.2.3/8"},
		{"length too long", "10.0.0.0/33"},
		{"empty length", "10.0.0.0/"},
		{"port zero", "10.0.0.0/8:0"},
		{"port too large", "10.0.0.0/8:65536"},
		{"port signed", "10.0.0.0/8:+80"},
		{"no port", "10.0.0.0/8:"},
		{"range backwards", "10.0.0.0/8:90-80"},
		{"range open", "10.0.0.0/8:80-"},
		{"icmp with port", "10.0.0.0/8:80/icmp"},
		{"v4 brackets", "[10.0.0.0/8]:80"},
		{"v6 port without brackets", "fd00::/8:80"},
		{"v6 bracket open", "[fd00::/8:80"},
		{"v6 text after bracket", "[fd00::/8]80"},
		{"v6 length after bracket", "[fd00::]/8:80"},
		{"v6 zone", "fe80::1%eth0"},
		{"v6 zone with length", "fe80::%eth0/10"},
		{"v4 in v6", "::ffff:10.0.0.1"},
		{"v4 network in v6", "::ffff:0:0/96"},
		{"space", " 10.0.0.0/8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := policy.ParseRule(policy.Allow, tt.in); err == nil {
				t.Errorf("ParseRule(%q) = %+v, want an error", tt.in, got)
			}
		})
	}
	if _, err := policy.ParseRule(0, "10.0.0.0/8"); err == nil {
		t.Error("ParseRule with the zero action succeeded, want an error")
	}
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8:443/tcp", "10.1.2.3/udp", "[fd00::/8]:80-90/tcp", "fd00::/8/icmp", "::/0", "[::]:1-65535"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := policy.ParseRule(policy.Allow, s)
		if err != nil {
			return
		}
		again, err := policy.ParseRule(policy.Allow, r.String())
		if err != nil || again != r {
			t.Fatalf("ParseRule(%q).String() = %q, which parses as %+v, %v", s, r, again, err)
		}
	})
}
