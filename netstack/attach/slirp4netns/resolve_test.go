// SPDX-License-Identifier: Apache-2.0

package slirp4netns

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

func resolve(t *testing.T, line string) (Options, Attachment, error) {
	t.Helper()
	o, err := Parse("x", strings.Fields(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	a, err := o.Resolve()
	return o, a, err
}

// TestTexts compares what is written with testdata; -update writes that anew.
func TestTexts(t *testing.T) {
	banner := func(line string) string {
		o, a, err := resolve(t, line)
		if err != nil {
			t.Fatal(err)
		}
		return o.Banner(a.Config)
	}
	for golden, got := range map[string]string{
		"help.txt":    HelpText("slirp4netns"),
		"version.txt": VersionText("v1.2.3"),
		"banner.txt":  banner("123 tap0"),
		"banner-all.txt": banner("-c -6 -m 9000 --disable-host-loopback -a /tmp/api --cidr=192.168.0.0/16 --outbound-addr=192.0.2.1 " +
			"--outbound-addr6=2001:db8::1 --macaddress=2:0:0:0:0:1 123 tap0"),
	} {
		path := filepath.Join("testdata", golden)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", golden, diff)
		}
	}
}

// TestHelpHasWhatClientsSeek has the names that Podman, RootlessKit and the scripts
// around Docker look for.
func TestHelpHasWhatClientsSeek(t *testing.T) {
	help := HelpText("slirp4netns")
	for _, s := range specs() {
		hidden := s.Long == "no-host-loopback" || s.Long == "create-sandbox"
		if strings.Contains(help, "--"+s.Long) == hidden {
			t.Errorf("--%s is in the help: %v, want %v", s.Long, hidden, !hidden)
		}
	}
}

// TestResolve turns options into a configuration.
func TestResolve(t *testing.T) {
	_, a, err := resolve(t, "-c -6 --mtu=9000 --cidr=10.1.0.0/16 --macaddress=2-0-0-0-0-FF --outbound-addr=192.0.2.1 --outbound-addr6=lo --netns-type=path / eth7")
	if err != nil {
		t.Fatal(err)
	}
	cfg := a.Config
	if p := cfg.Tap.Plan; p.V4.Gateway.String() != "10.1.0.2" || p.V4.DNS.String() != "10.1.0.3" || p.V4.LeaseFirst.String() != "10.1.0.15" ||
		p.V4.LeaseLast.String() != "10.1.0.30" || p.V4.Container.String() != "10.1.0.100" || p.V6.Gateway.String() != "fd00::2" {
		t.Errorf("plan %+v", p)
	}
	if c := cfg.Tap; !c.Configure || !c.Pin || c.MTU != 9000 || cfg.MTU != 0 || c.MAC.String() != "02:00:00:00:00:ff" || c.Name != "eth7" || c.Target != (tap.Target{NetNS: "/"}) {
		t.Errorf("tap %+v", c)
	}
	if o := cfg.Outbound; o.Addr4.String() != "192.0.2.1" || o.Addr6 != netip.IPv6Loopback() || o.Interface != "" {
		t.Errorf("outbound %+v", o)
	}
	if diff := cmp.Diff([]string{"10.1.0.2", "fd00::2"}, []string{cfg.HostLoopback[0].Addr.String(), cfg.HostLoopback[1].Addr.String()}); diff != "" {
		t.Errorf("host loopback (-want +got):\n%s", diff)
	}
}

// TestResolveSwitches looks at what switches off.
func TestResolveSwitches(t *testing.T) {
	_, a, err := resolve(t, "--mtu=1279 -6 --disable-host-loopback --disable-dns 1 t")
	if err != nil {
		t.Fatal(err)
	}
	cfg := a.Config
	if cfg.Tap.Configure || cfg.Tap.MTU != 0 || cfg.MTU != 1279 {
		t.Errorf("without -c the interface is the container's: %+v", cfg)
	}
	if cfg.Tap.Plan.V6.Enabled() || len(a.Warnings) != 1 {
		t.Errorf("IPv6 %+v, warnings %q, want none of it and a warning", cfg.Tap.Plan.V6, a.Warnings)
	}
	if len(cfg.HostLoopback) > 0 || !cfg.NoDNS || cfg.Answers[policy.HostLoopbackOff] != policy.AnswerNetUnreachable || cfg.Answers[policy.NoSuchService] != policy.AnswerSilence {
		t.Errorf("configuration %+v", cfg)
	}
}

// TestResolveRefuses has what is answered with a message alone.
func TestResolveRefuses(t *testing.T) {
	const outbound, outbound6 = "outbound-addr has to be valid ipv4 address or interface name.", "outbound-addr6 has to be valid ipv6 address or interface name."
	for _, tt := range []struct{ flags, want string }{
		{"--cidr=", "invalid CIDR: "},
		{"--cidr=10.0.2.0", "invalid CIDR: 10.0.2.0"},
		{"--cidr=10.0.2.0/9999", "invalid CIDR: 10.0.2.0/9999"},
		{"--cidr=10.0.2.0/+4", "invalid CIDR: 10.0.2.0/+4"},
		{"--cidr=10.0.2.0/24/24", "invalid CIDR: 10.0.2.0/24/24"},
		{"--cidr=10.0.2/24", "invalid CIDR: 10.0.2/24"},
		{"--cidr=fd00::/64", "invalid CIDR: fd00::/64"},
		{"--cidr=999.0.0.0/24", "invalid network address: 999.0.0.0"},
		{"--cidr=010.0.2.0/24", "invalid network address: 010.0.2.0"},
		{"--cidr=10.0.2.0/26", "prefix length needs to be 1-25"},
		{"--cidr=10.0.2.0/0", "prefix length needs to be 1-25"},
		{"--cidr=10.0.2.100/24", "CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24"},
		{"--cidr=foo --outbound-addr=foo", "invalid CIDR: foo"},
		{"--outbound-addr=no-such-link", outbound}, {"--outbound-addr=::1", outbound},
		{"--outbound-addr6=no-such-link", outbound6}, {"--outbound-addr6=192.0.2.1", outbound6}, {"--outbound-addr6=::ffff:192.0.2.1", outbound6},
		{"-c --macaddress=xx", "\"xx\" is an invalid MAC address.\nmacaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated by a ':')."},
		{"--api-socket=" + strings.Repeat("x", 108), "the specified API socket path is too long (>= 108)"},
		{"--mtu=67", "cannot set MTU: 67 bytes are too few: want at least 68"},
	} {
		_, _, err := resolve(t, tt.flags+" 123 tap0")
		bad, ok := errors.AsType[*Error](err)
		if !ok || bad.Usage || bad.Error() != tt.want {
			t.Errorf("%s: error %#v, want %q alone", tt.flags, err, tt.want)
		}
	}
	for _, mac := range []string{"0:0:0:0:0", "2:0:0:0:0:0:1", "200:0:0:0:0:1", "+2:0:0:0:0:1", "2::0:0:0:1", ""} {
		if got, err := parseMAC(mac); (err == nil) != (mac == "") {
			t.Errorf("parseMAC(%q): %v, error %v", mac, got, err)
		}
	}
	if _, a, err := resolve(t, "--cidr=1.0.0.0/08 --api-socket="+strings.Repeat("x", 107)+" 123 tap0"); err != nil || a.Config.Tap.Plan.V4.Prefix.Bits() != 8 {
		t.Errorf("%+v, error %v, want a prefix of 8 bits", a, err)
	}
}
