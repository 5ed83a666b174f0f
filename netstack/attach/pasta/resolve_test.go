// SPDX-License-Identifier: Apache-2.0

package pasta

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/policy"
)

// testHost is a host with two interfaces, of which eth0 has the default routes.
func testHost() Host {
	return Host{
		Interfaces: []Interface{
			{Name: "lo"},
			{Name: "wg0", Addrs: prefixes("10.8.0.5/32")},
			{Name: "eth0", Addrs: prefixes("192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/64")},
		},
		Defaults: []Default{
			{Interface: "eth0", Gateway: addr("192.0.2.1"), Source: addr("192.0.2.8")},
			{Interface: "eth0", IPv6: true, Gateway: addr("fe80::1")},
		},
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(words ...string) (ps []netip.Prefix) {
	for _, w := range words {
		ps = append(ps, netip.MustParsePrefix(w))
	}
	return ps
}

// planOf is the address plan in a line for each family.
func planOf(t *testing.T, h Host, line string) (name, plan, mapped string) {
	t.Helper()
	o, err := Parse(strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := o.Resolve(h)
	if err != nil {
		return "", "error: " + err.Error(), ""
	}
	var lines, maps []string
	for _, f := range cfg.Tap.Plan.Families() {
		s := fmt.Sprintf("%s/%d via %s", f.Container, f.Prefix.Bits(), f.Via())
		if f.DNS.IsValid() {
			s += " dns " + f.DNS.String()
		}
		if !f.Shared {
			s += " not shared"
		}
		lines = append(lines, s)
	}
	for _, l := range cfg.HostLoopback {
		s := l.Addr.String()
		if l.Host.IsValid() {
			s += "=" + l.Host.String()
		}
		maps = append(maps, s)
	}
	if _, err := policy.New(policy.Config{Plan: cfg.Tap.Plan, HostLoopback: cfg.HostLoopback}); err != nil {
		t.Errorf("%s: %v", line, err)
	}
	return cfg.Tap.Name, strings.Join(lines, "; "), strings.Join(maps, " ")
}

func TestResolve(t *testing.T) {
	tunnel := Host{Interfaces: testHost().Interfaces, Defaults: []Default{{Interface: "wg0"}}}
	for _, tt := range []struct {
		what, line         string
		host               Host
		name, plan, mapped string
	}{
		{
			"copied", "1", testHost(),
			"eth0", "192.0.2.8/24 via 192.0.2.1; 2001:db8::7/64 via fe80::1", "192.0.2.1 fe80::1",
		},
		{
			"Podman", "--config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet --netns /x --map-guest-addr 169.254.1.2", testHost(),
			"eth0", "192.0.2.8/24 via 192.0.2.1 dns 169.254.1.1; 2001:db8::7/64 via fe80::1", "169.254.1.2=192.0.2.8",
		},
		{
			"Podman's bridge", "--config-net --map-guest-addr 169.254.1.2 --map-guest-addr fc00::2 --address fc00::3 --gateway fc00::1 --no-map-gw --netns /x", testHost(),
			"eth0", "192.0.2.8/24 via 192.0.2.1; fc00::3/64 via fc00::1", "169.254.1.2=192.0.2.8 fc00::2=2001:db8::7",
		},
		{
			"RootlessKit", "--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=auto 1", testHost(),
			"tap0", "10.0.2.100/24 via 10.0.2.2 dns 10.0.2.3", "",
		},
		{
			"what people write", "-a 10.0.2.0 -n 24 -g 10.0.2.2 --map-host-loopback 10.0.2.9 -4 1", testHost(),
			"eth0", "10.0.2.0/24 via 10.0.2.2", "10.0.2.9",
		},
		{"by class", "-4 -a 10.1.2.3 --map-host-loopback none 1", testHost(), "eth0", "10.1.2.3/8 via 192.0.2.1", ""},
		{"the host's other address", "-4 -a 192.0.2.7 --no-map-gw 1", testHost(), "eth0", "192.0.2.7/24 via 192.0.2.1", ""},
		{"an interface without a route", "-i wg0 --no-map-gw 1", testHost(), "wg0", "10.8.0.5/32 via 169.254.2.2", ""},
		{"a tunnel", "--no-map-gw 1", tunnel, "wg0", "10.8.0.5/32 via 169.254.2.2", ""},
		{"no network", "--map-guest-addr 169.254.1.2 1", Host{}, "tap0", "169.254.2.1/16 via 169.254.2.2", "169.254.2.2"},
		{"no IPv6", "-6 1", Host{}, "", "error: the host has no IPv6 address with a default route to copy: give --address and --gateway", ""},
		{"IPv6 given", "-6 -a fd00::1 -g fd00::2 1", Host{}, "tap0", "fd00::1/64 via fd00::2", "fd00::2"},
		{"little MTU", "-m 1000 --no-map-gw 1", testHost(), "eth0", "192.0.2.8/24 via 192.0.2.1", ""},
		{"gateway of its own", "-g 192.0.2.8 1", testHost(), "", "error: 192.0.2.8 is the container's own address: the gateway and the name server need others", ""},
		{"gateway of no family", "-4 -g fd00::2 1", testHost(), "", "error: --gateway fd00::2: the container has no address of that family: give --address", ""},
		{"resolver at the gateway", "-4 --dns-forward 192.0.2.1 1", testHost(), "", "error: 192.0.2.1 leads to the host's loopback: give --no-map-gw, or --dns-forward and --map-guest-addr other addresses", ""},
		{"resolver at the gateway alone", "-4 --no-map-gw --dns-forward 192.0.2.1 1", testHost(), "eth0", "192.0.2.8/24 via 192.0.2.1 dns 192.0.2.1", ""},
		{"host at the gateway", "-4 --map-guest-addr 192.0.2.1 1", testHost(), "", "error: 192.0.2.1 leads to the host's loopback: give --no-map-gw, or --dns-forward and --map-guest-addr other addresses", ""},
		{"host at the resolver", "-4 --no-map-gw --map-guest-addr 10.0.0.3 --dns-forward 10.0.0.3 1", testHost(), "", "error: --dns-forward 10.0.0.3 and --map-guest-addr: give them two addresses", ""},
		{"no such interface", "-i eth9 1", testHost(), "", `error: the host has no interface "eth9"`, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			name, plan, mapped := planOf(t, tt.host, tt.line)
			if diff := cmp.Diff([]string{tt.name, tt.plan, tt.mapped}, []string{name, plan, mapped}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

// TestOurName proves that the address by which the gateway of IPv6 is known, where that
// has a link-local one, is neither the container's nor link-local.
func TestOurName(t *testing.T) {
	o, err := Parse([]string{"1"})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := o.Resolve(testHost())
	if err != nil {
		t.Fatal(err)
	}
	want := addr("2001:db8::6")
	if f := cfg.Tap.Plan.V6; f.Gateway != want || f.NextHop != addr("fe80::1") {
		t.Errorf("gateway %s, next hop %s, want %s and fe80::1", f.Gateway, f.NextHop, want)
	}
}

// TestOff has options that leave things out.
func TestOff(t *testing.T) {
	o, err := Parse(strings.Fields("--config-net --no-tcp --no-icmp -t 80 -T 6379 -u 53 1"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := o.Resolve(testHost())
	if err != nil {
		t.Fatal(err)
	}
	if w := cfg.Without; !w.TCP || !w.ICMP || !w.NDP || !w.RA || w.UDP || w.DHCP {
		t.Errorf("without %+v", w)
	}
	if len(cfg.Publish) != 1 || cfg.Publish[0].String() != "53:53/udp" || len(cfg.HostPorts) != 0 || cfg.Auto != nil {
		t.Errorf("published %v, host's %v, followed %v", cfg.Publish, cfg.HostPorts, cfg.Auto)
	}
}
