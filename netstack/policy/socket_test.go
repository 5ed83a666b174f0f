// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/policy"
)

func TestParseSocket(t *testing.T) {
	longest := "/" + strings.Repeat("p", 106)
	tests := []struct {
		name, in string
		want     policy.SocketAt
	}{
		{"port", "80=/run/s", policy.SocketAt{Port: 80, Path: "/run/s"}},
		{"address", "10.0.2.5:80=/run/s", policy.SocketAt{Addr: netip.MustParseAddr("10.0.2.5"), Port: 80, Path: "/run/s"}},
		{"v6 address", "[fd00::5]:80=/run/s", policy.SocketAt{Addr: netip.MustParseAddr("fd00::5"), Port: 80, Path: "/run/s"}},
		{"signs in the path", "80=/run/a=b,c:d e", policy.SocketAt{Port: 80, Path: "/run/a=b,c:d e"}},
		{"longest path", "80=" + longest, policy.SocketAt{Port: 80, Path: longest}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := policy.ParseSocket(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, sameAddr); diff != "" {
				t.Errorf("ParseSocket(%q) (-want +got):\n%s", tt.in, diff)
			}
			if got.String() != tt.in {
				t.Errorf("String() = %q, want %q", got, tt.in)
			}
		})
	}
}

func TestParseSocketRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", "PORT=PATH"},
		{"no path", "80", "PORT=PATH"},
		{"empty path", "80=", "not absolute"},
		{"relative path", "80=run/s", "not absolute"},
		{"abstract socket", "80=@s", "not absolute"},
		{"zero byte", "80=/run/\x00s", "zero byte"},
		{"path too long", "80=/" + strings.Repeat("p", 107), "at most 107"},
		{"no port", "=/run/s", `""`},
		{"port 0", "0=/run/s", "1 to 65535"},
		{"port too large", "70000=/run/s", "70000"},
		{"range", "80-90=/run/s", "80-90"},
		{"protocol", "80/tcp=/run/s", "80/tcp"},
		{"address without port", "10.0.2.2=/run/s", "no port"},
		{"v6 address without port", "fd00::2=/run/s", "no port"},
		{"v6 address in brackets without port", "[fd00::2]=/run/s", "no port"},
		{"v6 address without brackets", "fd00::2:80=/run/s", "no port"},
		{"name", "gateway:80=/run/s", "gateway"},
		{"zone", "[fe80::1%tap0]:80=/run/s", "zone"},
		{"v4 in v6", "[::ffff:10.0.2.2]:80=/run/s", "write it as 10.0.2.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := policy.ParseSocket(tt.in)
			if err == nil {
				t.Fatalf("ParseSocket(%q) = %+v, want an error", tt.in, got)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseSocket(%q): %v, want %q in it", tt.in, err, tt.want)
			}
		})
	}
}

func FuzzParseSocket(f *testing.F) {
	for _, s := range []string{"80=/run/s", "[fd00::2]:80=/run/s", "10.0.2.2:65535=/=", "1=/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := policy.ParseSocket(s)
		if err != nil {
			return
		}
		again, err := policy.ParseSocket(k.String())
		if err != nil || again != k {
			t.Fatalf("ParseSocket(%q).String() = %q, which parses as %+v, %v", s, k, again, err)
		}
	})
}
