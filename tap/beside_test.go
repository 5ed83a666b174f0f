// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// TestBeside gives a container one network after the other.
func TestBeside(t *testing.T) {
	for _, pin := range []bool{false, true} {
		c := taptest.NewContainer(t)
		cfg := tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t), Beside: true, Pin: pin}
		open(t, cfg)
		// A tap that could be taken over is somebody else's, like any interface.
		c.Exec(t, "ip", "tuntap", "add", "tap1", "mode", "tap")
		for _, name := range []string{"tap0", "tap1", "lo"} {
			cfg.Name = name
			if _, err := tap.Open(cfg); !errors.Is(err, tap.ErrNameTaken) {
				t.Errorf("%s: %v, want %v", name, err, tap.ErrNameTaken)
			}
		}
		second, err := tap.NewPlan(prefix("10.7.0.0/24"), prefix("fd07::/64"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Name, cfg.Plan = "tap2", second
		open(t, cfg)
		for family, want := range map[string]string{"-4": "tap0", "-6": "tap0"} {
			out := c.Exec(t, "ip", family, "route", "get", map[string]string{"-4": "192.0.2.1", "-6": "2001:db8::1"}[family])
			if !strings.Contains(out, "dev "+want) {
				t.Errorf("the way out is %q, want by %s", out, want)
			}
			if out := c.Exec(t, "ip", family, "route"); !strings.Contains(out, "dev tap2 metric 2048") {
				t.Errorf("there is no spare default route: %q", out)
			}
		}
	}
}

// TestRoutes has other routes than the default ones.
func TestRoutes(t *testing.T) {
	for _, tt := range []struct {
		routes []netip.Prefix
		want   string
	}{
		{[]netip.Prefix{}, ""},
		{[]netip.Prefix{prefix("192.0.2.0/24"), prefix("2001:db8::/32")}, "192.0.2.0/24 via 10.0.2.2 dev tap0 \n2001:db8::/32 via fd00::2 dev tap0 metric 1024 pref medium\n"},
	} {
		c := taptest.NewContainer(t)
		open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t), Routes: tt.routes})
		got := c.Exec(t, "sh", "-c", "(ip -4 route; ip -6 route) | grep via || true")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("routes %s (-want +got):\n%s", tt.routes, diff)
		}
	}
	for _, routes := range [][]netip.Prefix{{{}}, {prefix("10.0.0.1/8")}, make([]netip.Prefix, tap.MaxRoutes+1)} {
		if _, err := tap.Open(tap.Config{Target: tap.Target{PID: 1}, Plan: defaultPlan(t), Configure: true, Routes: routes}); err == nil || !strings.Contains(err.Error(), "route") {
			t.Errorf("routes %v: %v, want an error about the routes", routes, err)
		}
	}
	// As many as there may be fit into the set-up.
	c := taptest.NewContainer(t)
	var most []netip.Prefix
	for i := range byte(tap.MaxRoutes) {
		most = append(most, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 32))
	}
	open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t), Routes: most, Beside: true, Pin: true})
}

// TestOpenSocket makes a socket in a container, for which nobody enters it.
func TestOpenSocket(t *testing.T) {
	c := taptest.NewContainer(t)
	c.Exec(t, "ip", "link", "set", "lo", "up")
	fd, err := tap.OpenSocket(tap.Target{PID: c.PID()}, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	if out := c.Exec(t, "cat", "/proc/net/tcp"); strings.Count(out, "\n") != 2 {
		t.Errorf("in the container listens: %q, want one socket", out)
	}
	if _, err := tap.OpenSocket(tap.Target{PID: c.PID()}, unix.AF_INET, -1, 0); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a socket of no kind: %v, want %v", err, syscall.EINVAL)
	}
	if _, err := tap.OpenSocket(tap.Target{NetNS: "/nowhere/net"}, unix.AF_INET, unix.SOCK_STREAM, 0); !errors.Is(err, tap.ErrTarget) {
		t.Errorf("no namespace: %v, want %v", err, tap.ErrTarget)
	}
}
