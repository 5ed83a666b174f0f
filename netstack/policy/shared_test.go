// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
)

// shared is a plan whose network the host is in, with a resolver outside of it.
func shared() tap.Plan {
	a := netip.MustParseAddr
	return tap.Plan{V4: tap.Family{
		Prefix: netip.MustParsePrefix("192.0.2.0/24"), Container: a("192.0.2.7"), Gateway: a("192.0.2.1"), DNS: a("169.254.1.1"), Shared: true,
	}}
}

// TestShared dials neighbors and the router, but not what is nobody's or the host's.
func TestShared(t *testing.T) {
	guest := policy.LoopbackAt{Addr: netip.MustParseAddr("169.254.1.2"), Host: netip.MustParseAddr("192.0.2.7")}
	whole := policy.LoopbackAt{Addr: netip.MustParseAddr("192.0.2.1")}
	for _, tt := range []struct {
		name, dst, dial string
		reason          policy.Reason
		mapped          []policy.LoopbackAt
	}{
		{"neighbor", "192.0.2.9:80", "192.0.2.9:80", policy.Default, nil},
		{"router", "192.0.2.1:80", "192.0.2.1:80", policy.Default, nil},
		{"router, mapped", "192.0.2.1:80", "127.0.0.1:80", policy.HostLoopback, []policy.LoopbackAt{whole, guest}},
		{"the host itself", "169.254.1.2:80", "192.0.2.7:80", policy.HostLoopback, []policy.LoopbackAt{whole, guest}},
		{"the host itself, not mapped", "169.254.1.2:80", "", policy.LinkLocal, nil},
		{"resolver, by another port", "169.254.1.1:853", "", policy.NoSuchService, nil},
		{"broadcast", "192.0.2.255:80", "", policy.Broadcast, nil},
		{"loopback", "127.0.0.1:80", "", policy.Loopback, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.New(policy.Config{Plan: shared(), HostLoopback: tt.mapped})
			if err != nil {
				t.Fatal(err)
			}
			d := p.Decide(tcp, netip.MustParseAddrPort(tt.dst))
			var dial netip.AddrPort
			if tt.dial != "" {
				dial = netip.MustParseAddrPort(tt.dial)
			}
			if d.Dial != dial || d.Reason != tt.reason || bool(d.Verdict) != dial.IsValid() {
				t.Errorf("Decide(%s): %+v, want %s for %v", tt.dst, d, tt.dial, tt.reason)
			}
		})
	}
}

// TestSeenAsMapped shows the host by the address that leads to it.
func TestSeenAsMapped(t *testing.T) {
	guest := policy.LoopbackAt{Addr: netip.MustParseAddr("169.254.1.2"), Host: netip.MustParseAddr("192.0.2.7")}
	p, err := policy.New(policy.Config{Plan: shared(), HostLoopback: []policy.LoopbackAt{guest}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"192.0.2.7:5": "169.254.1.2:5", "127.0.0.1:5": "192.0.2.1:5", "192.0.2.9:5": "192.0.2.9:5"} {
		if got := p.SeenAs(udp, netip.MustParseAddrPort(host)); got.String() != want {
			t.Errorf("SeenAs(%s) = %s, want %s", host, got, want)
		}
	}
}

// TestLoopbackAtHost refuses addresses of the host that cannot be.
func TestLoopbackAtHost(t *testing.T) {
	for _, host := range []string{"fd00::1", "0.0.0.0", "224.0.0.1", "::ffff:192.0.2.7"} {
		l := policy.LoopbackAt{Addr: netip.MustParseAddr("169.254.1.2"), Host: netip.MustParseAddr(host)}
		if _, err := policy.New(policy.Config{Plan: shared(), HostLoopback: []policy.LoopbackAt{l}}); err == nil {
			t.Errorf("%s as an address of the host is no error", host)
		}
	}
}
