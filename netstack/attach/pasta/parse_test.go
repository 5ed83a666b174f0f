// SPDX-License-Identifier: Apache-2.0

package pasta

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/tap"
)

// TestTarget has what is to be done, by operands.
func TestTarget(t *testing.T) {
	for _, tt := range []struct {
		line    string
		action  Action
		target  tap.Target
		command string
	}{
		{"123", Attach, tap.Target{PID: 123}, ""},
		{"--config-net --userns /u 123", Attach, tap.Target{PID: 123, UserNS: "/u"}, ""},
		{"--netns /run/user/1000/netns/netns-1", Attach, tap.Target{NetNS: "/run/user/1000/netns/netns-1"}, ""},
		{"--netns blue", Attach, tap.Target{NetNS: "/run/netns/blue"}, ""},
		{"", Spawn, tap.Target{}, ""},
		{"--config-net ip -br addr", Spawn, tap.Target{}, "ip -br addr"},
		{"-f -- 12 34", Spawn, tap.Target{}, "12 34"},
		{"--help --bogus", Help, tap.Target{}, ""},
		{"--version", Version, tap.Target{}, ""},
	} {
		o, err := Parse(strings.Fields(tt.line))
		if err != nil {
			t.Errorf("%q: %v", tt.line, err)
			continue
		}
		if o.Action != tt.action || o.Target != tt.target || strings.Join(o.Command, " ") != tt.command {
			t.Errorf("%q: action %v, target %+v, command %q", tt.line, o.Action, o.Target, o.Command)
		}
	}
}

// TestParseErrors wants one line that names what is wrong.
func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ line, says string }{
		{"--bogus 1", "unrecognized option '--bogus'"},
		{"--map-gw 1", "unrecognized option '--map-gw'"},
		{"-z 1", "invalid option -- 'z'"},
		{"--mtu", "option '--mtu' requires an argument"},
		{"--net 1", "is ambiguous"},
		{"--socket x 1", "--socket is not supported"},
		{"-1 1", "--one-off is not supported"},
		{"-c x 1", "--conf-path is not supported"},
		{"--stats 1 1", "--stats is not supported"},
		{"-m 65521 1", "--mtu"},
		{"-m 67 1", "--mtu"},
		{"-a 10.0.2.100/33 1", "prefix length"},
		{"-a 10.0.2.1 -a 10.0.2.2 1", "it is 10.0.2.1 already"},
		{"-a 0.0.0.0 1", "--address"},
		{"-a ::ffff:1.2.3.4 1", "--address"},
		{"-a 10.0.2.1/24 -n 24 1", "not both"},
		{"-n 255.0.255.0 1", "no prefix"},
		{"-n 0 1", "--netmask"},
		{"-g x 1", "--gateway"},
		{"--dns-forward none 1", "--dns-forward"},
		{"--map-guest-addr x 1", "--map-guest-addr"},
		{"--ns-mac-addr 01:00:00:00:00:00 1", "unicast"},
		{"--log-size 1 1", "--log-size"},
		{"-4 -6 1", "exclude each other"},
		{"--netns x 1", "not both"},
		{"--netns x command", "no command"},
		{"--userns x command", "--userns needs"},
		{"--netns-only --userns /x 1", "exclude each other"},
		{"0", "process id"},
		{"99999999999", "process id"},
	} {
		_, err := Parse(strings.Fields(tt.line))
		if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, want one line that says %q", tt.line, err, tt.says)
		}
	}
}

// TestHelp finds each option in the help, but for those that are refused and a few that
// change nothing.
func TestHelp(t *testing.T) {
	silent := map[string]bool{"stderr": true, "no-copy-routes": true, "no-copy-addrs": true, "host-lo-to-ns-lo": true, "chroot-fallback": true}
	help := HelpText("pasta")
	for _, s := range specs() {
		if shown := strings.Contains(help, "--"+s.Long); shown == (unsupported(s.Long) != "" || silent[s.Long]) {
			t.Errorf("--%s: shown in the help is %v", s.Long, shown)
		}
	}
}

// FuzzParse wants an *Error, or options that mean something and resolve without one that
// is none.
func FuzzParse(f *testing.F) {
	f.Add("--config-net\x00--dns-forward\x00169.254.1.1\x00-t\x00none\x00-u\x00none\x00--no-map-gw\x00--quiet\x00--netns\x00/x")
	f.Add("-a\x0010.0.2.0\x00-n\x0024\x00-g\x0010.0.2.2\x00-T\x0080\x00--\x00sh\x00-c\x00x")
	f.Add("-6\x00-a\x00fd00::1/126\x00--map-guest-addr\x00fd00::2\x001")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := Parse(strings.Split(line, "\x00"))
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%q: %v is no *Error", line, err)
			}
			return
		}
		if o.Action == Attach && o.Target.PID <= 0 && o.Target.NetNS == "" {
			t.Errorf("%q: no target", line)
		}
		o.outbound, o.outboundIf = perFamily[netip.Addr]{}, perFamily[string]{} // the machine's
		if cfg, err := o.Resolve(testHost()); err == nil && len(cfg.Tap.Plan.Families()) == 0 && o.Action != Help && o.Action != Version {
			t.Errorf("%q: no family", line)
		}
	})
}
