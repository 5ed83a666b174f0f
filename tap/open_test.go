// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/errgroup"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// link is what `ip -j address` says of an interface.
type link struct {
	Name      string   `json:"ifname"`
	Flags     []string `json:"flags"`
	MTU       int      `json:"mtu"`
	Queue     int      `json:"txqlen"`
	MAC       string   `json:"address"`
	Addresses []addr   `json:"addr_info"`
}

type addr struct {
	Local     string `json:"local"`
	Len       int    `json:"prefixlen"`
	Broadcast string `json:"broadcast"`
	Scope     string `json:"scope"`
	Tentative bool   `json:"tentative"`
}

type route struct {
	Dst     string `json:"dst"`
	Gateway string `json:"gateway"`
	Dev     string `json:"dev"`
}

func links(t testing.TB, c *taptest.Container) map[string]link {
	t.Helper()
	var ls []link
	parse(t, c.Exec(t, "ip", "-j", "address"), &ls)
	m := map[string]link{}
	for _, l := range ls {
		m[l.Name] = l
	}
	return m
}

// defaults returns the default routes, IPv4 first.
func defaults(t testing.TB, c *taptest.Container) []route {
	t.Helper()
	var all []route
	for _, family := range []string{"-4", "-6"} {
		var rs []route
		parse(t, c.Exec(t, "ip", "-j", family, "route", "show", "default"), &rs)
		all = append(all, rs...)
	}
	return all
}

func parse(t testing.TB, text string, v any) {
	t.Helper()
	if text == "" {
		return
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("parse %q: %v", text, err)
	}
}

func open(t testing.TB, cfg tap.Config) *tap.Device {
	t.Helper()
	d, err := tap.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestOpenConfigures(t *testing.T) {
	both := defaultPlan(t)
	v4 := addr{Local: "10.0.2.100", Len: 24, Broadcast: "10.0.2.255", Scope: "global"}
	v6 := addr{Local: "fd00::100", Len: 64, Scope: "global"}
	mac := net.HardwareAddr{2, 1, 2, 3, 4, 5}
	for _, tt := range []struct {
		name   string
		cfg    tap.Config
		link   string
		mtu    int
		addrs  []addr
		routes []route
	}{
		{"both families", tap.Config{Plan: both}, "tap0", tap.DefaultMTU, []addr{v4, v6}, []route{{"default", "10.0.2.2", "tap0"}, {"default", "fd00::2", "tap0"}}},
		{"pinned", tap.Config{Plan: both, Pin: true}, "tap0", tap.DefaultMTU, []addr{v4, v6}, []route{{"default", "10.0.2.2", "tap0"}, {"default", "fd00::2", "tap0"}}},
		{"IPv4 only", tap.Config{Plan: tap.Plan{V4: both.V4}, MTU: 1500}, "tap0", 1500, []addr{v4}, []route{{"default", "10.0.2.2", "tap0"}}},
		{"IPv6 only", tap.Config{Plan: tap.Plan{V6: both.V6}, MTU: tap.MinMTU6}, "tap0", tap.MinMTU6, []addr{v6}, []route{{"default", "fd00::2", "tap0"}}},
		{"no plan", tap.Config{}, "tap0", tap.DefaultMTU, nil, nil},
		{"name, MTU and MAC", tap.Config{Name: "e.th-0_long15xy", MTU: tap.MaxMTU, MAC: mac}, "e.th-0_long15xy", tap.MaxMTU, nil, nil},
		{"smallest MTU", tap.Config{Plan: tap.Plan{V4: both.V4}, MTU: tap.MinMTU}, "tap0", tap.MinMTU, []addr{v4}, []route{{"default", "10.0.2.2", "tap0"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := taptest.NewContainer(t)
			tt.cfg.Target, tt.cfg.Configure = tap.Target{PID: c.PID()}, true
			d := open(t, tt.cfg)
			if err := d.IPv6Err(); err != nil {
				t.Errorf("IPv6Err: %v", err)
			}
			ls := links(t, c)
			l := ls[tt.link]
			if l.MAC != d.MAC().String() || (tt.cfg.MAC != nil && l.MAC != mac.String()) || l.MTU != tt.mtu || d.MTU() != tt.mtu {
				t.Errorf("the container has MAC %s and MTU %d, the device says %s and %d, want %s and %d", l.MAC, l.MTU, d.MAC(), d.MTU(), tt.cfg.MAC, tt.mtu)
			}
			for _, flag := range []string{"UP", "MULTICAST", "BROADCAST"} {
				if !slices.Contains(l.Flags, flag) {
					t.Errorf("%s has the flags %v, want %s among them", tt.link, l.Flags, flag)
				}
			}
			if !slices.Contains(ls["lo"].Flags, "UP") {
				t.Error("lo is not up")
			}
			global := slices.DeleteFunc(slices.Clone(l.Addresses), func(a addr) bool { return a.Scope != "global" })
			if diff := cmp.Diff(tt.addrs, global, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
			if slices.ContainsFunc(global, func(a addr) bool { return a.Tentative }) {
				t.Errorf("duplicate address detection holds up %+v", global)
			}
			if diff := cmp.Diff(tt.routes, defaults(t, c), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("default routes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOpenWithoutConfigure(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  tap.Config
		mtu  int
	}{
		{"as the kernel makes it", tap.Config{}, 1500},
		{"with MTU and MAC", tap.Config{MTU: 9000, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}}, 9000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := taptest.NewContainer(t)
			tt.cfg.Target, tt.cfg.Plan = tap.Target{NetNS: c.NetNSPath()}, defaultPlan(t)
			d := open(t, tt.cfg)
			ls := links(t, c)
			l := ls["tap0"]
			if slices.Contains(l.Flags, "UP") || slices.Contains(ls["lo"].Flags, "UP") {
				t.Errorf("the links are %+v, want both down", ls)
			}
			if l.MTU != tt.mtu || d.MTU() != tt.mtu || l.MAC != d.MAC().String() || len(l.Addresses) != 0 {
				t.Errorf("the container has %+v, the device MTU %d and MAC %s, want MTU %d and no address", l, d.MTU(), d.MAC(), tt.mtu)
			}
			if tt.cfg.MAC != nil && l.MAC != tt.cfg.MAC.String() {
				t.Errorf("MAC is %s, want %s", l.MAC, tt.cfg.MAC)
			}
		})
	}
}

func TestOpenWithoutIPv6(t *testing.T) {
	c := taptest.NewContainer(t)
	c.Exec(t, "sh", "-c", "cd /proc/sys/net/ipv6/conf; echo 1 >all/disable_ipv6; echo 1 >default/disable_ipv6")
	d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t)})
	if d.IPv6Err() == nil {
		t.Error("IPv6Err: got nil where IPv6 is switched off")
	}
	want := []route{{"default", "10.0.2.2", "tap0"}}
	if diff := cmp.Diff(want, defaults(t, c)); diff != "" {
		t.Errorf("default routes (-want +got):\n%s", diff)
	}
}

// TestOpenNoAutoconf proves that a router advertisement adds no second address.
func TestOpenNoAutoconf(t *testing.T) {
	c := taptest.NewContainer(t)
	open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t)})
	if got := c.Exec(t, "cat", "/proc/sys/net/ipv6/conf/tap0/accept_ra"); got != "0\n" {
		t.Errorf("accept_ra is %q, want 0", got)
	}
}

func TestOpenTargets(t *testing.T) {
	c := taptest.NewContainer(t)
	for _, tt := range []struct {
		name   string
		target tap.Target
	}{
		{"process", tap.Target{PID: c.PID()}},
		{"path", tap.Target{NetNS: c.NetNSPath()}},
		{"path and user namespace", tap.Target{NetNS: c.NetNSPath(), UserNS: c.UserNSPath()}},
		{"process and user namespace", tap.Target{PID: c.PID(), UserNS: c.UserNSPath()}},
	} {
		for _, pin := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				d := open(t, tap.Config{Target: tt.target, Name: "x0", Pin: pin})
				if _, ok := links(t, c)["x0"]; !ok {
					t.Error("the container has no x0")
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
				if err := d.Close(); err != nil {
					t.Errorf("close again: %v", err)
				}
				if _, ok := links(t, c)["x0"]; ok {
					t.Error("x0 is still there after Close")
				}
			})
		}
	}
}

func TestPlanAddressIsNotOnlyDefault(t *testing.T) {
	plan, err := tap.NewPlan(netip.MustParsePrefix("192.168.128.0/17"), netip.MustParsePrefix("fd12:3456::/64"))
	if err != nil {
		t.Fatal(err)
	}
	c := taptest.NewContainer(t)
	open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: plan})
	want := []route{{"default", "192.168.128.2", "tap0"}, {"default", "fd12:3456::2", "tap0"}}
	if diff := cmp.Diff(want, defaults(t, c)); diff != "" {
		t.Errorf("default routes (-want +got):\n%s", diff)
	}
	if got := links(t, c)["tap0"].Addresses[0]; got.Broadcast != "192.168.255.255" || got.Len != 17 {
		t.Errorf("the address is %+v, want a /17 with broadcast 192.168.255.255", got)
	}
}

// TestOpenConcurrently forks from several threads at once, while others start
// programs, and counts what is left.
func TestOpenConcurrently(t *testing.T) {
	const goroutines, rounds = 8, 5
	var cs []*taptest.Container
	for range goroutines {
		cs = append(cs, taptest.NewContainer(t))
	}
	want := take(t, cs[0])
	var g errgroup.Group
	// A program that is being started has copies of all descriptors until its
	// execve(2) has closed the last of them, which may be after the start returns:
	// no tap may be closed meanwhile that is to be gone then.
	var starting sync.Mutex
	for i, c := range cs {
		g.Go(func() error {
			for range rounds {
				d, err := tap.Open(tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t), Pin: i%2 == 0})
				if err != nil {
					return err
				}
				starting.Lock()
				err = errors.Join(c.Command("ip", "link", "show", "tap0").Run(), d.Close())
				starting.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, take(t, cs[0])); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}

// TestOpenDumpable leaves the process as dumpable as it was: to have joined a user
// namespace in memory that is ours, too, makes that undumpable.
func TestOpenDumpable(t *testing.T) {
	c := taptest.NewContainer(t)
	for _, want := range []int{1, 0} {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(want), 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		d, err := tap.Open(tap.Config{Target: tap.Target{PID: c.PID()}, Pin: true})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || got != want {
			t.Errorf("dumpable is %d (%v), want %d", got, err, want)
		}
		d.Close()
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
}
