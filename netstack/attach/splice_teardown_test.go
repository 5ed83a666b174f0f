// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/netstack/attach/sandbox"
	"github.com/slipway-net/slipway/tap"
)

// traces returns what a session leaves in the container but its interface: rules,
// routes and tables, and the listeners.
func traces(t testing.TB, c *attachtest.Place) string {
	t.Helper()
	return c.Exec(t, "sh", "-c", fmt.Sprintf(
		"nft list ruleset; ip rule; ip -6 rule; ip route show table %[1]s 2>/dev/null; ip -6 route show table %[1]s 2>/dev/null; ss -Htln", routeTable))
}

// TestSpliceClose leaves nothing in the container, whatever was under way.
func TestSpliceClose(t *testing.T) {
	attachtest.NeedTools(t, "nft", "ss")
	w, c := attachtest.Open(t), attachtest.NewContainer(t)
	c.Exec(t, "sh", "-c", "ip link set lo up; ip rule; ip -6 rule") // what is made once
	clean := traces(t, c)
	var listeners []*net.TCPListener
	for _, f := range attachtest.Families() {
		listeners = append(listeners, w.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0)))
	}
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy=%t", busy), func(t *testing.T) {
			before := resources(t)
			r := &rig{World: w, c: c, plan: newPlan(t), log: &syncBuffer{}}
			var err error
			if r.s, err = attach.New(r.config()); err != nil {
				t.Fatal(err)
			}
			if got := traces(t, c); !strings.Contains(got, "slipway-tap0") {
				t.Fatalf("nothing is set up: %s", got)
			}
			ctx, stop := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- r.s.Run(ctx) }()
			r.waitSpliced(t, 1)
			r.path = netstack.PathSpliced
			var pairs []tcpPair
			if busy {
				for _, l := range listeners {
					pairs = append(pairs, r.connectTo(t, l, tcpAddr(l.Addr())))
				}
			}
			stop()
			if err := errors.Join(<-ran, r.s.Close(), r.s.Close()); err != nil {
				t.Errorf("end of the session: %v", err)
			}
			for _, p := range pairs {
				if _, err := p.peer.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the peer reads %v, want the end", err)
				}
				p.close()
			}
			if diff := cmp.Diff(clean, traces(t, c)); diff != "" {
				t.Errorf("traces in the container (-before +after):\n%s", diff)
			}
			settle(t, before)
		})
	}
}

// helperWord is the first argument of the test binary where it is a helper for the
// process whose id is the second.
const helperWord = "attach-helper"

// helper runs a session as `slipway attach` does, and logs to standard error.
func helper(pid string) error {
	target, err := tap.ParseTarget(pid)
	if err != nil {
		return err
	}
	plan, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		return err
	}
	if err := attach.Tune(); err != nil {
		return err
	}
	s, err := attach.New(attach.Config{
		Tap: tap.Config{Target: target, Plan: plan, Configure: true, Pin: true},
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Confine(sandbox.Policy{}); err != nil {
		return err
	}
	return s.Run(context.Background())
}

// startHelper starts a helper for the container and waits until TCP is spliced.
func (r *rig) startHelper(t testing.TB) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := exec.Command(self, helperWord, fmt.Sprint(r.c.PID()))
	r.log = &syncBuffer{}
	h.Stderr = r.log
	check(t, h.Start())
	log := r.log
	t.Cleanup(func() {
		kill(h)
		if t.Failed() {
			t.Logf("a helper ended with %s; its log:\n%s", h.ProcessState, log)
		}
	})
	r.waitSpliced(t, 1)
	return h
}

func kill(h *exec.Cmd) {
	_ = h.Process.Kill()
	_ = h.Wait()
}

// TestSpliceKilled kills the process of a session. Its tables go with it; what it
// leaves does not disturb the next.
func TestSpliceKilled(t *testing.T) {
	attachtest.NeedTools(t, "nft", "ss")
	r := &rig{World: attachtest.Open(t), c: attachtest.NewContainer(t), plan: newPlan(t), log: &syncBuffer{}}
	for range 3 {
		h := r.startHelper(t)
		if got := traces(t, r.c); !strings.Contains(got, "slipway-tap0") {
			t.Fatalf("nothing is set up: %s", got)
		}
		var pairs []tcpPair
		for _, f := range attachtest.Families() {
			p := r.connect(t, f)
			pingpong(t, p)
			pairs = append(pairs, p)
		}
		kill(h)
		for _, p := range pairs {
			for _, end := range []interface{ Read([]byte) (int, error) }{p.container, p.peer} {
				if _, err := end.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("read: %v, want the end", err)
				}
			}
			p.close()
		}
		attachtest.Eventually(t, "the tables are gone", func() bool { return !strings.Contains(traces(t, r.c), "slipway-tap0") })
		attachtest.Eventually(t, "the interface is gone", func() bool {
			return !strings.Contains(r.c.Exec(t, "ls", "/proc/sys/net/ipv4/conf"), "tap0")
		})
	}
	if n := strings.Count(r.c.Exec(t, "ip", "rule"), "0x5100000"); n > 1 {
		t.Errorf("%d rules are left over, want no more than one", n)
	}
	r.log = &syncBuffer{}
	r.open(t, nil)
	r.waitSpliced(t, 1)
	families(t, func(t *testing.T, f attachtest.Family) { r.speaksBy(t, f, netstack.PathSpliced) })
}
