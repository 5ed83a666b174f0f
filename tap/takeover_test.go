// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// TestTakeOver opens a tap that the caller made, as RootlessKit does, and leaves
// its configuration as it is.
func TestTakeOver(t *testing.T) {
	for _, pin := range []bool{false, true} {
		c := taptest.NewContainer(t)
		c.Exec(t, "sh", "-c", "ip tuntap add tap0 mode tap && ip link set tap0 up mtu 4000 txqueuelen 77 address 02:00:00:00:00:07 && ip addr add 10.9.8.7/24 dev tap0")
		before := links(t, c)["tap0"]
		d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Pin: pin})
		if !d.TakenOver() || !d.Offload().Has(tap.OffloadUSO) || d.MTU() != 4000 || d.MAC().String() != "02:00:00:00:00:07" {
			t.Errorf("taken over: %t, offload %s, MTU %d, MAC %s", d.TakenOver(), d.Offload(), d.MTU(), d.MAC())
		}
		if diff := cmp.Diff(before, links(t, c)["tap0"], ignoreCarrier); diff != "" {
			t.Errorf("the link (-want +got):\n%s", diff)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if _, ok := links(t, c)["tap0"]; !ok {
			t.Error("the tap is gone after Close")
		}
	}
}

// ignoreCarrier leaves out what the carrier brings that an open tap has: the flag
// LOWER_UP and the link-local address.
var ignoreCarrier = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Flags" }, cmp.Ignore()),
	cmpopts.IgnoreSliceElements(func(a addr) bool { return a.Scope == "link" }),
}

// TestTakeOverConfigures configures such a tap twice, as restarting does.
func TestTakeOverConfigures(t *testing.T) {
	c := taptest.NewContainer(t)
	c.Exec(t, "ip", "tuntap", "add", "tap0", "mode", "tap")
	for range 2 {
		d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 8}})
		want := []route{{"default", "10.0.2.2", "tap0"}, {"default", "fd00::2", "tap0"}}
		if diff := cmp.Diff(want, defaults(t, c)); diff != "" {
			t.Errorf("default routes (-want +got):\n%s", diff)
		}
		if l := links(t, c)["tap0"]; l.MAC != "02:00:00:00:00:08" || l.MTU != tap.DefaultMTU || !slices.Contains(l.Flags, "UP") {
			t.Errorf("the link is %+v", l)
		}
		exchange(t, d)
		d.Close()
	}
}

// TestTakeOverWatch ends a taken-over tap's target.
func TestTakeOverWatch(t *testing.T) {
	c := taptest.NewContainer(t)
	c.Exec(t, "ip", "tuntap", "add", "tap0", "mode", "tap")
	d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}})
	c.Kill()
	if err := d.Watch(t.Context()); !errors.Is(err, tap.ErrGone) {
		t.Errorf("Watch: %v, want ErrGone", err)
	}
}
