// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

func TestPublishRules(t *testing.T) {
	var many []Port
	for i := range 60000 {
		many = append(many, Port{HostPort: 1 + i, ContainerPort: 1 + i, Protocol: "tcp"})
	}
	for name, tt := range map[string]struct {
		ports []Port
		want  []string
	}{
		"none":      {nil, []string{}},
		"a range":   {many, []string{"1-60000:1-60000/tcp"}},
		"IPv6":      {[]Port{{HostPort: 80, ContainerPort: 8080, HostIP: "::1"}}, []string{"[::1]:80:8080/tcp"}},
		"unordered": {[]Port{{HostPort: 82, ContainerPort: 2}, {HostPort: 81, ContainerPort: 1, Protocol: "TCP"}}, []string{"81-82:1-2/tcp"}},
		"twice":     {[]Port{{HostPort: 81, ContainerPort: 1}, {HostPort: 81, ContainerPort: 1, Protocol: "tcp"}}, []string{"81:1/tcp"}},
		"one port, two protocols": {
			[]Port{{HostPort: 53, ContainerPort: 53}, {HostPort: 53, ContainerPort: 53, Protocol: "udp"}},
			[]string{"53:53/tcp", "53:53/udp"},
		},
		"in a row here, not there": {[]Port{{HostPort: 81, ContainerPort: 1}, {HostPort: 82, ContainerPort: 3}}, []string{"81:1/tcp", "82:3/tcp"}},
	} {
		if diff := cmp.Diff(tt.want, PublishRules(tt.ports)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPlanAuto(t *testing.T) {
	load := func(keys string) *Conf {
		t.Helper()
		c, err := Load([]byte(`{"cniVersion":"1.0.0","name":"n","type":"slipway-cni"`+keys+`}`), "")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	taken := []netip.Prefix{netip.MustParsePrefix("10.0.2.0/23"), netip.MustParsePrefix("fd00::/63")}
	for keys, want := range map[string]string{
		"":                               "10.0.4.100 fd00:0:0:2::100",
		`,"subnet":"auto","ipv6":false`:  "10.0.4.100 invalid IP",
		`,"subnet":"10.0.2.0/24"`:        "10.0.2.100 fd00:0:0:2::100",
		`,"address":"10.0.2.7"`:          "10.0.2.7 fd00:0:0:2::100",
		`,"address6":"fd01:2:3:4::5"`:    "10.0.4.100 fd01:2:3:4::5",
		`,"ipv4":false,"subnet6":"auto"`: "invalid IP fd00:0:0:2::100",
	} {
		p, err := load(keys).Plan(nil, taken)
		if got := p.V4.Container.String() + " " + p.V6.Container.String(); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", keys, got, err, want)
		}
	}
	// Where everything is taken, it is as if nothing was: better than no container.
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	if p, err := load("").Plan(nil, all); err != nil || p.V4.Container.String() != "10.0.2.100" {
		t.Errorf("all taken: %v, %v", p.V4, err)
	}
}

// FuzzLoad checks that what is read is either an error of the specification, or something
// to make a plan of without harm.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"n","type":"x","subnet":"10.1.0.0/24","deny":["10.0.0.0/8"]}`), "IP=10.1.0.7;MAC=02:00:00:00:00:01")
	f.Add([]byte(`{"name":"n","runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":2}],"aliases":{"n":["a"]}}}`), "IgnoreUnknown=1;A=b")
	f.Fuzz(func(t *testing.T, stdin []byte, args string) {
		c, err := Load(stdin, args)
		var e *types.Error
		if err != nil {
			if !errors.As(err, &e) || e.Code == 0 || e.Msg == "" {
				t.Errorf("error %#v is none of the specification", err)
			}
			return
		}
		for _, r := range PublishRules(c.Ports) {
			if strings.ContainsAny(r, " \n") {
				t.Errorf("rule %q", r)
			}
		}
		plan, err := c.Plan(nil, nil)
		if err != nil {
			return
		}
		_, _ = c.RouteList(plan, nil)
	})
}
