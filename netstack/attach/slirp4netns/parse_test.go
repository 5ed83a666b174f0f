// SPDX-License-Identifier: Apache-2.0

package slirp4netns

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/slipway-net/slipway/tap"
)

// TestParse reads command lines that clients use.
func TestParse(t *testing.T) {
	defaults := func(change func(*Options)) Options {
		o := Options{ExitFD: -1, ReadyFD: -1, TapFD: -1, MTU: DefaultMTU, CIDR: tap.DefaultCIDR4}
		change(&o)
		return o
	}
	const experimental, deprecated = "WARNING: Support for %s is experimental", "WARNING: --%s is deprecated and will be removed in future releases, please use --%s instead."
	ipv6, seccomp := strings.Replace(experimental, "%s", "IPv6", 1), strings.Replace(experimental, "%s", "seccomp", 1)
	for _, tt := range []struct {
		name, line string
		want       Options
	}{
		{"Podman", "--disable-host-loopback --mtu=65520 --enable-sandbox --enable-seccomp --enable-ipv6 -c -r 3 -e 4 --api-socket /tmp/x.net --netns-type=path / tap0",
			defaults(func(o *Options) {
				o.NoHostLoopback, o.MTU, o.Sandbox, o.Seccomp, o.IPv6, o.Configure = true, 65520, true, true, true, true
				o.ReadyFD, o.ExitFD, o.APISocket, o.NetNS, o.TapName = 3, 4, "/tmp/x.net", "/", "tap0"
				o.Warnings = []string{seccomp, ipv6}
			})},
		{"RootlessKit", "--mtu 65520 -r 3 --disable-host-loopback --cidr 10.0.3.0/24 123 tap0",
			defaults(func(o *Options) {
				o.MTU, o.ReadyFD, o.NoHostLoopback, o.CIDR, o.PID, o.TapName = 65520, 3, true, "10.0.3.0/24", 123, "tap0"
			})},
		{"RootlessKit with a detached namespace", "--mtu 65520 -r 3 --userns-path=/proc/self/ns/user --netns-type=path /proc/self/ns/net tap0",
			defaults(func(o *Options) {
				o.MTU, o.ReadyFD, o.UserNS, o.NetNS, o.TapName = 65520, 3, "/proc/self/ns/user", "/proc/self/ns/net", "tap0"
			})},
		{"Buildah", "--mtu 65520 -r 3 -c 123 tap0",
			defaults(func(o *Options) { o.MTU, o.ReadyFD, o.Configure, o.PID, o.TapName = 65520, 3, true, 123, "tap0" })},
		{"options behind operands", "-c 123 --api-socket x tap11",
			defaults(func(o *Options) { o.Configure, o.PID, o.APISocket, o.TapName = true, 123, "x", "tap11" })},
		{"last one wins", "-m 1400 --mtu=1401 123 t", defaults(func(o *Options) { o.MTU, o.PID, o.TapName = 1401, 123, "t" })},
		{"a descriptor", "--netns-type=tapfd 5", defaults(func(o *Options) { o.TapFD = 5 })},
		{"a descriptor and a name", "--netns-type tapfd 0 tap0", defaults(func(o *Options) { o.TapFD, o.TapName = 0, "tap0" })},
		{"BESS", "--target-type=bess /tmp/bess", defaults(func(o *Options) {
			o.BESS, o.Warnings = "/tmp/bess", []string{"WARNING: BESS mode is experimental"}
		})},
		{"old names", "--no-host-loopback --create-sandbox 1 t", defaults(func(o *Options) {
			o.NoHostLoopback, o.Sandbox, o.PID, o.TapName = true, true, 1, "t"
			o.Warnings = []string{
				strings.Replace(strings.Replace(deprecated, "%s", "no-host-loopback", 1), "%s", "disable-host-loopback", 1),
				strings.Replace(strings.Replace(deprecated, "%s", "create-sandbox", 1), "%s", "enable-sandbox", 1),
			}
		})},
		{"too many operands", "1 t u", defaults(func(o *Options) {
			o.PID, o.TapName, o.Warnings = 1, "t", []string{"WARNING: too many arguments"}
		})},
		{"numbers as strtol reads them", "--mtu=+1400 --exit-fd= +12 t", defaults(func(o *Options) { o.MTU, o.ExitFD, o.PID, o.TapName = 1400, 0, 12, "t" })},
		{"help before what is wrong", "--target-type=x -h --mtu=0", defaults(func(o *Options) { o.Action = Help })},
		{"version", "-cv", defaults(func(o *Options) { o.Action, o.Configure = Version, true })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse("x", strings.Fields(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(Options{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

// TestParseRefuses has what is answered with the usage.
func TestParseRefuses(t *testing.T) {
	const mtu, pid = "MTU must be a positive integer (< 65522)", "PID must be a positive integer"
	for _, tt := range []struct{ line, want string }{
		{"", ""}, {"123", ""}, {"0", ""}, {"--netns-type=path /nonexistent", ""}, {"--target-type=bess", ""},
		{"--bogus=3 1 t", "x: unrecognized option '--bogus=3'"},
		{"-z", "x: invalid option -- 'z'"},
		{"--e=4", "x: option '--e=4' is ambiguous; possibilities: '--exit-fd' '--enable-ipv6' '--enable-sandbox' '--enable-seccomp'"},
		{"--mtu", "x: option '--mtu' requires an argument"},
		{"-m", "x: option requires an argument -- 'm'"},
		{"--help=3", "x: option '--help' doesn't allow an argument"},
		{"--mtu=0 --help", mtu}, {"--mtu=65522 1 t", mtu}, {"--mtu=12x 1 t", mtu}, {"--mtu= 1 t", mtu}, {"--mtu=99999999999 1 t", mtu},
		{"--exit-fd=-1 1 t", "exit-fd must be a non-negative integer"},
		{"--ready-fd=x 1 t", "ready-fd must be a non-negative integer"},
		{"0 t", pid}, {"abc t", pid}, {"0x10 t", pid}, {"-- -5 t", pid}, {"999999999999999 t", pid}, {"--cidr=foo 0 t", pid},
		{"--netns-type=tapfd x", "TAPFD must a file descriptor"},
		{"--netns-type=path /nonexistent t", "existing path expected when --netns-type=path: No such file or directory"},
		{"--netns-type= 999 t", "existing path expected when --netns-type=path: No such file or directory"},
		{"--userns-path=/nonexistent --mtu=0", "userns path doesn't exist: /nonexistent"},
		{"--macaddress=xx --target-type=x", "--macaddr cannot be specified when --configure or -c is not specified"},
		{"--target-type=x", `--target-type must be either "netns" or "bess"`},
		{"--target-type=bess -c /x", "--configure conflicts with --target-type=bess"},
		{"--target-type=bess --netns-type=pid /x", "--netns-type conflicts with --target-type=bess"},
		{"--target-type=bess --userns-path=/proc/self/ns/user /x", "--userns-path conflicts with --target-type=bess"},
		{"--target-type=bess /x y", "too many arguments"},
	} {
		_, err := Parse("x", strings.Fields(tt.line))
		bad, ok := errors.AsType[*Error](err)
		if !ok || !bad.Usage || bad.Error() != tt.want {
			t.Errorf("%s: error %#v, want %q and the usage", tt.line, err, tt.want)
		}
	}
}

// FuzzParse wants an *Error or options that mean something.
func FuzzParse(f *testing.F) {
	f.Add("-c\x00--mtu=1500\x00-6\x001\x00tap0")
	f.Add("--target-type=bess\x00/x")
	f.Add("--netns-type=tapfd\x005\x00--outbound-addr=127.0.0.1\x00--outbound-addr6=::1")
	f.Add("--cidr=10.0.2.0/24\x00-c\x00--macaddress=2:0:0:0:0:1\x001\x00t")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := Parse("x", strings.Split(line, "\x00"))
		if err == nil && o.Action != Attach {
			return
		}
		var a Attachment
		if err == nil {
			targets := 0
			for _, has := range []bool{o.PID > 0, o.NetNS != "", o.TapFD >= 0, o.BESS != ""} {
				if has {
					targets++
				}
			}
			// A path may be empty in words only.
			if targets != 1 && o.netnsType != typePath && o.targetType != typeBESS {
				t.Errorf("%q: %d targets: %+v", line, targets, o)
			}
			a, err = o.Resolve()
		}
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%q: error %v is a %T", line, err, err)
			}
			return
		}
		if f := a.Config.Tap.Plan.V4; !f.Enabled() || !f.Prefix.Contains(f.Container) {
			t.Errorf("%q: plan %+v", line, a.Config.Tap.Plan)
		}
		if strings.Count(o.Banner(a.Config), "\n") < 9 {
			t.Errorf("%q: banner %q", line, o.Banner(a.Config))
		}
	})
}
