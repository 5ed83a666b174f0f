// SPDX-License-Identifier: Apache-2.0

package helper

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/cni-plugin/netconf"
)

func TestArgs(t *testing.T) {
	for name, tt := range map[string]struct {
		keys   string
		routes []netip.Prefix
		want   string
	}{
		"least": {"", []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
			"--cidr 10.0.2.0/24 --cidr6 fd00::/64 --address 10.0.2.100 --gateway 10.0.2.2 --dns-address 10.0.2.3 " +
				"--address fd00::100 --gateway fd00::2 --dns-address fd00::3 --route 0.0.0.0/0"},
		"no IPv6, no route": {`,"ipv6":false,"dnsForward":"host"`, nil,
			"--cidr 10.0.2.0/24 --ipv6=false --address 10.0.2.100 --gateway 10.0.2.2 --dns-address 10.0.2.3 --route none"},
		"no IPv4": {`,"ipv4":false,"subnet6":"fd01::/64","dnsForward":"off","allowHostLoopback":true`, nil,
			"--cidr none --cidr6 fd01::/64 --address fd01::100 --gateway fd01::2 --dns-address fd01::3 --host-loopback fd01::2 --route none --dns none"},
		"much": {`,"ipv6":false,"portMappings":[{"hostPort":80,"containerPort":8080}],"hostLoopback":["10.0.2.2:5432/tcp"],"hostSocket":["53=/s"],` +
			`"aliases":["db"],"allow":["10.0.0.1/32"],"deny":["10.0.0.0/8"],"outboundAddr":"eth7","dnsForward":["1.1.1.1","9.9.9.9"],"accel":"off",` +
			`"bandwidth":{"ingressRate":1000,"ingressBurst":8000,"egressRate":9}`, nil,
			"--cidr 10.0.2.0/24 --ipv6=false --address 10.0.2.100 --gateway 10.0.2.2 --dns-address 10.0.2.3 --route none --publish 80:8080/tcp " +
				"--host-loopback 10.0.2.2:5432/tcp --host-socket 53=/s --dns-name db --allow 10.0.0.1/32 --deny 10.0.0.0/8 --outbound-addr eth7 " +
				"--rate-in 1000:8000 --rate-out 9 --dns 1.1.1.1,9.9.9.9 --accel off"},
		"by a broker": {`,"ipv6":false,"portMappings":[{"hostPort":80,"containerPort":8080}],"outside":"broker"`, nil,
			"--cidr 10.0.2.0/24 --ipv6=false --address 10.0.2.100 --gateway 10.0.2.2 --dns-address 10.0.2.3 --route none"},
	} {
		conf, err := netconf.Load([]byte(`{"cniVersion":"1.0.0","name":"n","type":"slipway-cni"`+tt.keys+`}`), "")
		if err != nil {
			t.Fatal(err)
		}
		plan, err := conf.Plan(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := Attachment{IfName: "eth0", MAC: "02:00:00:00:00:01", MTU: 1500, Plan: plan, Routes: tt.routes, Conf: conf}.Args()
		want := strings.Fields("--beside --ifname eth0 --macaddress 02:00:00:00:00:01 --mtu 1500 " + tt.want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
