// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
)

// TestNewFails leaves nothing behind, neither here nor in the container.
func TestNewFails(t *testing.T) {
	w := attachtest.Open(t)
	c := attachtest.NewContainer(t)
	c.Exec(t, "ip", "link", "add", "taken0", "type", "veth", "peer", "name", "taken1")
	links := c.Exec(t, "ls", "/proc/sys/net/ipv4/conf")
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	plan := newPlan(t)
	tests := []struct {
		name   string
		change func(*attach.Config)
		is     error // nil for any error
	}{
		{"no target", func(cfg *attach.Config) { cfg.Tap.Target = tap.Target{} }, tap.ErrTarget},
		{"plain file", func(cfg *attach.Config) { cfg.Tap.Target = tap.Target{NetNS: plain} }, tap.ErrTarget},
		{"missing file", func(cfg *attach.Config) { cfg.Tap.Target = tap.Target{NetNS: plain + "-not"} }, os.ErrNotExist},
		{"another owner", func(cfg *attach.Config) { cfg.Tap.Target = tap.Target{PID: w.Peer.PID()} }, tap.ErrTarget},
		{"name taken", func(cfg *attach.Config) { cfg.Tap.Name = "taken0" }, tap.ErrNameTaken},
		{"MTU", func(cfg *attach.Config) { cfg.Tap.MTU = 67 }, nil},
		{"resolver as loopback", func(cfg *attach.Config) { cfg.HostLoopback = []policy.LoopbackAt{{Addr: plan.V4.DNS}} }, nil},
	}
	before := resources(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := (&rig{c: c, plan: plan, log: &syncBuffer{}}).config()
			tt.change(&cfg)
			s, err := attach.New(cfg)
			if err == nil {
				s.Close()
				t.Fatal("New: no error")
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("New: %v, want %v", err, tt.is)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("New: %q is not one line", err)
			}
		})
	}
	if diff := cmp.Diff(links, c.Exec(t, "ls", "/proc/sys/net/ipv4/conf")); diff != "" {
		t.Errorf("interfaces (-before +after):\n%s", diff)
	}
	settle(t, before)
}

// TestSessionsLeaveNothing runs sessions one after the other on one container,
// with traffic of every kind under way at each end.
func TestSessionsLeaveNothing(t *testing.T) {
	const sessions = 20
	f := attachtest.Families()[0]
	server := netip.AddrPortFrom(f.PeerAddr, 5353)
	w := attachtest.Open(t)
	w.Peer.ServeDNS(t, server)
	r := &rig{World: w, c: attachtest.NewContainer(t), plan: newPlan(t), log: &syncBuffer{}}
	round := func(t *testing.T) {
		cfg := r.config()
		cfg.DNS = []netip.AddrPort{server}
		var err error
		if r.s, err = attach.New(cfg); err != nil {
			t.Fatalf("New: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- r.s.Run(ctx) }()
		r.c.Exec(t, "dig", "+short", "+tries=1", "@"+r.plan.V4.DNS.String(), "TXT", "short.example.")
		r.c.Exec(t, "ping", "-n", "-c", "1", f.PeerAddr.String())
		p := r.connect(t, f)
		exchange(t, p.container, p.peer)
		if n := len(r.s.Flows(ctx)); n < 2 {
			t.Errorf("%d flows are under way, want the connection's and the ping's", n)
		}
		stop()
		if err := errors.Join(<-ran, r.s.Close(), r.s.Close()); err != nil {
			t.Errorf("end of the session: %v", err)
		}
		if out := r.c.Exec(t, "ls", "/proc/sys/net/ipv4/conf"); strings.Contains(out, "tap0") {
			t.Errorf("the interface is still there: %s", out)
		}
	}
	attachtest.NeedTools(t, "dig", "ping")
	t.Run("warm up", round) // what is made once and kept
	before := resources(t)
	for range sessions {
		t.Run("session", round)
	}
	settle(t, before)
}

// TestGone ends with its container.
func TestGone(t *testing.T) {
	for _, tt := range []struct {
		name      string
		pin, path bool
	}{
		{"process", false, false},
		{"process, pinned", true, false},
		{"path", false, true},
		{"path, pinned", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := resources(t)
			t.Cleanup(func() { settle(t, before) })
			w, c := attachtest.Open(t), attachtest.NewContainer(t)
			r := &rig{World: w, c: c, plan: newPlan(t), log: &syncBuffer{}}
			cfg := r.config()
			cfg.Tap.Pin = tt.pin
			if tt.path {
				cfg.Tap.Target = tap.Target{NetNS: c.NetNSPath()}
			}
			var err error
			if r.s, err = attach.New(cfg); err != nil {
				t.Fatalf("New: %v", err)
			}
			ran := make(chan error, 1)
			go func() { ran <- r.s.Run(t.Context()) }()
			p := r.connect(t, attachtest.Families()[0])
			p.container.Close() // ours holds the namespace, too
			c.Close()
			if err := <-ran; !errors.Is(err, attach.ErrGone) {
				t.Errorf("Run: %v, want %v", err, attach.ErrGone)
			}
			if err := r.s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// TestCancelledBeforeRun runs a session that is over already.
func TestCancelledBeforeRun(t *testing.T) {
	r := prepare(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := r.s.Run(ctx); err != nil {
		t.Errorf("Run: %v, want nil for a context that is done", err)
	}
}

// held is what a process holds of the machine.
type held struct{ Descriptors, Goroutines, Children int }

func resources(t testing.TB) held {
	t.Helper()
	// The runtime's poller takes descriptors when it is first used, for good.
	r, w, err := os.Pipe()
	check(t, err, r.Close(), w.Close())
	fds, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	h := held{Descriptors: len(fds), Goroutines: runtime.NumGoroutine()}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // the thread has ended
			t.Fatal(err)
		}
		h.Children += len(strings.Fields(string(b)))
	}
	return h
}

// settle waits until the process holds no more than before.
func settle(t testing.TB, before held) {
	t.Helper()
	now := held{}
	defer func() {
		if t.Failed() {
			t.Logf("held before: %+v, after: %+v", before, now)
		}
	}()
	attachtest.Eventually(t, "descriptors, goroutines and children are back at rest", func() bool {
		now = resources(t)
		return now.Descriptors <= before.Descriptors && now.Goroutines <= before.Goroutines && now.Children <= before.Children
	})
}
