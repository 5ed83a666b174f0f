// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/tap"
)

func addrsOf(words ...string) []netip.Addr {
	var as []netip.Addr
	for _, w := range words {
		as = append(as, netip.MustParseAddr(w))
	}
	return as
}

func TestPlanWith(t *testing.T) {
	a := netip.MustParseAddr
	for _, tt := range []struct {
		name, cidr4, cidr6 string
		given              tap.Given
		want               tap.Plan
	}{
		{
			"as a plugin for addresses gives them", "10.1.0.0/16", "fd01::/96",
			tap.Given{Container: addrsOf("10.1.0.3", "fd01::2"), Gateway: addrsOf("10.1.0.1")},
			tap.Plan{
				V4: tap.Family{Prefix: prefix("10.1.0.0/16"), Gateway: a("10.1.0.1"), DNS: a("10.1.0.2"), Container: a("10.1.0.3"), LeaseFirst: a("10.1.0.15"), LeaseLast: a("10.1.0.30")},
				V6: tap.Family{Prefix: prefix("fd01::/96"), Gateway: a("fd01::1"), DNS: a("fd01::3"), Container: a("fd01::2"), LeaseFirst: a("fd01::f"), LeaseLast: a("fd01::1e")},
			},
		},
		{
			"the smallest", "192.168.7.8/29", "",
			tap.Given{Container: addrsOf("192.168.7.9")},
			tap.Plan{V4: tap.Family{Prefix: prefix("192.168.7.8/29"), Gateway: a("192.168.7.10"), DNS: a("192.168.7.11"), Container: a("192.168.7.9")}},
		},
		{
			"the container where the gateway usually is", "10.0.2.0/24", "",
			tap.Given{Container: addrsOf("10.0.2.2"), DNS: addrsOf("10.0.2.1")},
			tap.Plan{V4: tap.Family{Prefix: prefix("10.0.2.0/24"), Gateway: a("10.0.2.3"), DNS: a("10.0.2.1"), Container: a("10.0.2.2"), LeaseFirst: a("10.0.2.15"), LeaseLast: a("10.0.2.30")}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tap.PlanWith(prefix(tt.cidr4), prefix(tt.cidr6), tt.given)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, compareNetip); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanWithErrors(t *testing.T) {
	for _, tt := range []struct {
		name, cidr4, cidr6 string
		given              tap.Given
		says               string
	}{
		{"outside", "10.0.2.0/24", "", tap.Given{Container: addrsOf("10.0.3.1")}, "container 10.0.3.1: want an address of a host in 10.0.2.0/24"},
		{"the network", "10.0.2.0/24", "", tap.Given{Gateway: addrsOf("10.0.2.0")}, "gateway 10.0.2.0"},
		{"the broadcast", "10.0.2.0/24", "", tap.Given{DNS: addrsOf("10.0.2.255")}, "DNS server 10.0.2.255"},
		{"twice the same", "10.0.2.0/24", "", tap.Given{Container: addrsOf("10.0.2.5"), Gateway: addrsOf("10.0.2.5")}, "that nothing else has"},
		{"two of a family", "10.0.2.0/24", "", tap.Given{Container: addrsOf("10.0.2.5", "10.0.2.6")}, "there is one already, 10.0.2.5"},
		{"a family that is off", "10.0.2.0/24", "", tap.Given{Container: addrsOf("fd00::5")}, "no network of that family"},
		{"too small", "10.0.2.0/30", "", tap.Given{Container: addrsOf("10.0.2.1")}, "prefix length of 1 to 29"},
		{"small and nothing given", "10.0.2.0/28", "", tap.Given{Gateway: addrsOf("10.0.2.1")}, "prefix length of 1 to 25"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tap.PlanWith(prefix(tt.cidr4), prefix(tt.cidr6), tt.given)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("PlanWith: %v, want an error that says %q", err, tt.says)
			}
		})
	}
}

// FuzzPlanWith checks of every plan that its addresses are distinct hosts of the network,
// and those that were given are where they were given.
func FuzzPlanWith(f *testing.F) {
	f.Add("10.1.0.0/29", "10.1.0.1", "10.1.0.2", "")
	f.Add("fd00::/125", "fd00::1", "", "fd00::7")
	f.Fuzz(func(t *testing.T, cidr, container, gateway, dns string) {
		var g tap.Given
		for to, s := range map[*[]netip.Addr]string{&g.Container: container, &g.Gateway: gateway, &g.DNS: dns} {
			if a, err := netip.ParseAddr(s); err == nil {
				*to = append(*to, a)
			}
		}
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			return
		}
		p4, p6 := p, netip.Prefix{}
		if p.Addr().Is6() {
			p4, p6 = p6, p4
		}
		plan, err := tap.PlanWith(p4, p6, g)
		if err != nil {
			return
		}
		for _, fam := range plan.Families() {
			seen := map[netip.Addr]bool{fam.Prefix.Addr(): true}
			for _, a := range []netip.Addr{fam.Gateway, fam.DNS, fam.Container} {
				if seen[a] || !fam.Prefix.Contains(a) || a.Is4() && !fam.Prefix.Contains(a.Next()) {
					t.Errorf("%s: the address %s is used twice, outside or the last one", fam.Prefix, a)
				}
				seen[a] = true
			}
			for at, list := range map[netip.Addr][]netip.Addr{fam.Container: g.Container, fam.Gateway: g.Gateway, fam.DNS: g.DNS} {
				if len(list) > 0 && list[0] != at {
					t.Errorf("%s: %s was given and is %s", fam.Prefix, list[0], at)
				}
			}
		}
	})
}
