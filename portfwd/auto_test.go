// SPDX-License-Identifier: Apache-2.0

package portfwd_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/portfwd"
)

func TestParseAuto(t *testing.T) {
	a := netip.MustParseAddr
	for _, tt := range []struct {
		in   string
		want portfwd.Auto
		str  string // empty: the same as in
	}{
		{"auto", portfwd.Auto{}, ""},
		{"auto/udp", portfwd.Auto{Proto: portfwd.UDP}, ""},
		{"auto,!22,!8000-9000/tcp", portfwd.Auto{Exclude: []portfwd.PortRange{{First: 22, Last: 22}, {Proto: portfwd.TCP, First: 8000, Last: 9000}}}, ""},
		{"auto,!22,80", portfwd.Auto{Only: []portfwd.PortRange{{First: 80, Last: 80}}, Exclude: []portfwd.PortRange{{First: 22, Last: 22}}}, "auto,80,!22"},
		{"auto,80-80,1-65535/udp", portfwd.Auto{Only: []portfwd.PortRange{{First: 80, Last: 80}, {Proto: portfwd.UDP, First: 1, Last: 65535}}}, "auto,80,1-65535/udp"},
		{"auto,loopback,80", portfwd.Auto{Loopback: true, Only: []portfwd.PortRange{{First: 80, Last: 80}}}, "auto,80,loopback"},
		{"127.0.0.1:auto", portfwd.Auto{Host: a("127.0.0.1")}, ""},
		{"[::1]%lo:auto/tcp,!1", portfwd.Auto{Host: a("::1"), Interface: "lo", Proto: portfwd.TCP, Exclude: []portfwd.PortRange{{First: 1, Last: 1}}}, ""},
		{"%eth0:auto", portfwd.Auto{Interface: "eth0"}, ""},
		{":auto", portfwd.Auto{}, "auto"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			if !portfwd.IsAuto(tt.in) {
				t.Errorf("IsAuto(%q) is false", tt.in)
			}
			got, err := portfwd.ParseAuto(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, equal); diff != "" {
				t.Errorf("ParseAuto (-want +got):\n%s", diff)
			}
			str := tt.str
			if str == "" {
				str = tt.in
			}
			if got.String() != str {
				t.Errorf("String() = %q, want %q", got, str)
			}
		})
	}
}

func TestParseAutoRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, says string }{
		{"nothing", "", "want auto"},
		{"a rule", "80:80", "want auto"},
		{"upper case", "AUTO", "want auto"},
		{"port of the host", "8080:auto", "is not an IP address"},
		{"unknown protocol", "auto/icmp", "unknown protocol"},
		{"sctp", "auto/sctp", "sctp is not supported"},
		{"empty item", "auto,", "nor the option loopback"},
		{"unknown option", "auto,defer", "nor the option loopback"},
		{"option twice", "auto,loopback,loopback", "given twice"},
		{"70000", "auto,!70000", "from 0 to 65535"},
		{"port 0", "auto,!0", "nothing listens at port 0"},
		{"range from 0", "auto,0-10", "nothing listens at port 0"},
		{"reversed range", "auto,!9000-8000", "want 8000-9000"},
		{"excluded twice", "auto,!!22", "is not a number"},
		{"unknown protocol of a range", "auto,!22/icmp", "unknown protocol"},
		{"bad address", "1.2.3:auto", "is not an IP address"},
		{"zone", "[fe80::1%lo]:auto", "write the interface behind"},
		{"multicast", "224.0.0.1:auto", "is a group"},
		{"too many", "auto" + strings.Repeat(",1", 257), "257 ranges of ports: want at most 256"},
		{"too long", "auto" + strings.Repeat(",65535", 1000), "too long: want at most 4096"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := portfwd.ParseAuto(tt.in)
			if !errors.Is(err, portfwd.ErrRule) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("ParseAuto(%q) = %+v, %v; want ErrRule that says %q", tt.in, got, err, tt.says)
			}
		})
	}
	for _, a := range []portfwd.Auto{
		{Only: []portfwd.PortRange{{First: 2, Last: 1}}},
		{Exclude: []portfwd.PortRange{{First: 1, Last: 1, Proto: "icmp"}}},
		{Interface: "a b"},
	} {
		if err := a.Check(); !errors.Is(err, portfwd.ErrRule) {
			t.Errorf("Check of %+v: %v", a, err)
		}
	}
	if portfwd.IsAuto("127.0.0.1:8080:80") || portfwd.IsAuto("autos") || portfwd.IsAuto("") {
		t.Error("IsAuto of what is none")
	}
}

// FuzzParseAuto finds that what is accepted is written as it is read.
func FuzzParseAuto(f *testing.F) {
	for _, s := range []string{"auto", "auto,!22,!8000-9000/tcp", "[::1]%lo:auto/udp,1-2,loopback", ":auto,", "%:auto"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := portfwd.ParseAuto(s)
		if err != nil {
			if msg := err.Error(); !errors.Is(err, portfwd.ErrRule) || len(msg) > 2048 || strings.ContainsAny(msg, "\n\r\x1b") {
				t.Fatalf("ParseAuto(%q): %v", s, err)
			}
			return
		}
		again, err := portfwd.ParseAuto(a.String())
		if err != nil || again.String() != a.String() || !portfwd.IsAuto(a.String()) {
			t.Fatalf("ParseAuto(%q).String() = %q, which parses as %+v, %v", s, a, again, err)
		}
	})
}
