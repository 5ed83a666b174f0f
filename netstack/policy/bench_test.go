// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
)

// ipProtoTCP is TCP's number among the IP protocols.
const ipProtoTCP = 6

func BenchmarkDecide(b *testing.B) {
	plan, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		b.Fatal(err)
	}
	var rules []policy.Rule
	for _, text := range []string{"192.0.2.0/24", "203.0.113.0/24:443/tcp", "2001:db8:1::/48"} {
		r, err := policy.ParseRule(policy.Deny, text)
		if err != nil {
			b.Fatal(err)
		}
		rules = append(rules, r)
	}
	for name, rules := range map[string][]policy.Rule{"no rule": nil, "3 rules": rules} {
		p, err := policy.New(policy.Config{Plan: plan, Rules: rules})
		if err != nil {
			b.Fatal(err)
		}
		for _, dst := range []string{"198.51.100.1:443", "[2001:db8::1]:443", "127.0.0.1:443"} {
			b.Run(name+"/"+dst, func(b *testing.B) {
				to := netip.MustParseAddrPort(dst)
				b.ReportAllocs()
				for b.Loop() {
					p.Decide(ipProtoTCP, to)
				}
			})
		}
	}
}
