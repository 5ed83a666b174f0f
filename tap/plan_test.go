// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/tap"
)

func defaultPlan(t testing.TB) tap.Plan {
	t.Helper()
	p, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNewPlan(t *testing.T) {
	a := netip.MustParseAddr
	for _, tt := range []struct {
		name, cidr4, cidr6 string
		want               tap.Plan
		mac                string
	}{
		{
			"defaults", tap.DefaultCIDR4, tap.DefaultCIDR6,
			tap.Plan{
				V4: tap.Family{Prefix: prefix("10.0.2.0/24"), Gateway: a("10.0.2.2"), DNS: a("10.0.2.3"), Container: a("10.0.2.100"), LeaseFirst: a("10.0.2.15"), LeaseLast: a("10.0.2.30")},
				V6: tap.Family{Prefix: prefix("fd00::/64"), Gateway: a("fd00::2"), DNS: a("fd00::3"), Container: a("fd00::100"), LeaseFirst: a("fd00::f"), LeaseLast: a("fd00::1e")},
			},
			"52:55:0a:00:02:02",
		},
		{
			"upper half of a /24", "192.168.1.128/25", "",
			tap.Plan{V4: tap.Family{Prefix: prefix("192.168.1.128/25"), Gateway: a("192.168.1.130"), DNS: a("192.168.1.131"), Container: a("192.168.1.228"), LeaseFirst: a("192.168.1.143"), LeaseLast: a("192.168.1.158")}},
			"52:55:c0:a8:01:82",
		},
		{
			"IPv6 only", "", "2001:db8:1:2::/64",
			tap.Plan{V6: tap.Family{Prefix: prefix("2001:db8:1:2::/64"), Gateway: a("2001:db8:1:2::2"), DNS: a("2001:db8:1:2::3"), Container: a("2001:db8:1:2::100"), LeaseFirst: a("2001:db8:1:2::f"), LeaseLast: a("2001:db8:1:2::1e")}},
			"52:55:0a:00:02:02",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tap.NewPlan(prefix(tt.cidr4), prefix(tt.cidr6))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, compareNetip); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if mac := got.GatewayMAC().String(); mac != tt.mac {
				t.Errorf("GatewayMAC is %s, want %s", mac, tt.mac)
			}
		})
	}
}

var compareNetip = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func TestNewPlanErrors(t *testing.T) {
	for _, tt := range []struct {
		name, cidr4, cidr6, says string
	}{
		{"neither", "", "", "give an IPv4 or an IPv6 network"},
		{"too small", "10.0.2.0/26", "", "prefix length of 1 to 25"},
		{"everything", "0.0.0.0/0", "", "prefix length of 1 to 25"},
		{"host bits", "10.0.2.1/24", "", "want the network address 10.0.2.0/24"},
		{"host bits, IPv6", "", "fd00::1/64", "want the network address fd00::/64"},
		{"loopback", "127.0.0.0/8", "", "private or public unicast"},
		{"link-local", "169.254.0.0/16", "", "private or public unicast"},
		{"multicast", "224.0.0.0/24", "", "private or public unicast"},
		{"reserved", "240.0.0.0/8", "", "private or public unicast"},
		{"this network", "0.0.0.0/8", "", "private or public unicast"},
		{"IPv6 for IPv4", "fd00::/24", "", "want an IPv4 network"},
		{"IPv4 for IPv6", "", "10.0.2.0/24", "want an IPv6 network"},
		{"IPv6 not a /64", "", "fd00::/48", "prefix length of 64"},
		{"IPv6 link-local", "", "fe80::/64", "unique local or global"},
		{"IPv6 multicast", "", "ff02::/64", "unique local or global"},
		{"IPv6 mapped", "", "::ffff:0:0/64", "want an IPv6 network"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tap.NewPlan(prefix(tt.cidr4), prefix(tt.cidr6))
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("NewPlan: %v, want an error that says %q", err, tt.says)
			}
		})
	}
}

func prefix(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

// FuzzNewPlan checks of every plan that its addresses are distinct, lie in the
// network and are not its ends.
func FuzzNewPlan(f *testing.F) {
	f.Add(tap.DefaultCIDR4, tap.DefaultCIDR6)
	f.Add("192.168.1.128/25", "")
	f.Add("1.0.0.0/1", "2000::/64")
	f.Add("10.0.0.0/8", "::/64")
	f.Fuzz(func(t *testing.T, cidr4, cidr6 string) {
		p4, _ := netip.ParsePrefix(cidr4)
		p6, _ := netip.ParsePrefix(cidr6)
		plan, err := tap.NewPlan(p4, p6)
		if err != nil {
			return
		}
		for _, fam := range plan.Families() {
			seen := map[netip.Addr]bool{fam.Prefix.Addr(): true}
			for _, a := range []netip.Addr{fam.Gateway, fam.DNS, fam.Container, fam.LeaseFirst, fam.LeaseLast} {
				if seen[a] || !fam.Prefix.Contains(a) || !fam.Prefix.Contains(a.Next()) {
					t.Errorf("%s: the address %s is used twice, outside or the last one", fam.Prefix, a)
				}
				seen[a] = true
			}
			if plan.Of(fam.Gateway) != fam || !fam.Ours(fam.DNS) || fam.Ours(fam.Container) {
				t.Errorf("%s: Of or Ours is wrong", fam.Prefix)
			}
		}
	})
}
