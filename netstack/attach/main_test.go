// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == trafficWord {
		os.Exit(traffic(os.Args[2:]))
	}
	if len(os.Args) == 3 && os.Args[1] == helperWord {
		if err := helper(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "helper:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(attachtest.Main(m))
}

// TestPlainUser proves that the tests say something: they have no capabilities.
func TestPlainUser(t *testing.T) {
	attachtest.Open(t)
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	for _, d := range data {
		if d.Permitted != 0 && os.Getuid() != 0 {
			t.Errorf("the tests have capabilities: %+v", data)
		}
	}
}

// A rig is a running session and its container.
type rig struct {
	*attachtest.World
	c    *attachtest.Place
	s    *attach.Session
	plan tap.Plan
	log  *syncBuffer
	ran  chan error // what Run returned
	stop context.CancelFunc
	once sync.Once
	err  error
	want error  // what Run is to return, besides nil
	path string // that TCP must take; empty for any
}

// start makes a container and runs its session until the test ends. The config
// that change gets is that of a session which configures the container.
func start(t testing.TB, change func(*attach.Config)) *rig {
	t.Helper()
	r := prepare(t, change)
	r.run(t)
	return r
}

// prepare is start without Run.
func prepare(t testing.TB, change func(*attach.Config)) *rig {
	t.Helper()
	r := &rig{World: attachtest.Open(t), c: attachtest.NewContainer(t), plan: newPlan(t), log: &syncBuffer{}}
	r.make(t, change)
	return r
}

// make makes the session, which is closed at the test's end.
func (r *rig) make(t testing.TB, change func(*attach.Config)) {
	t.Helper()
	cfg := r.config()
	if change != nil {
		change(&cfg)
	}
	var err error
	if r.s, err = attach.New(cfg); err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := r.s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the session:\n%s", r.log)
		}
	})
}

func (r *rig) config() attach.Config {
	return attach.Config{
		Tap: tap.Config{Target: tap.Target{PID: r.c.PID()}, Plan: r.plan, Configure: true, Pin: true},
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// run runs the session until the test ends.
func (r *rig) run(t testing.TB) {
	ctx, stop := context.WithCancel(context.Background())
	r.stop, r.ran = stop, make(chan error, 1)
	go func() { r.ran <- r.s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := r.end(); err != nil && !errors.Is(err, r.want) {
			t.Errorf("Run: %v", err)
		}
	})
}

// end waits for the end of Run.
func (r *rig) end() error {
	r.once.Do(func() { r.err = <-r.ran })
	return r.err
}

// hurryNeighbours lets the container's kernel give up a neighbour that does not
// answer after 10 ms each time, in place of a second.
func (r *rig) hurryNeighbours(t testing.TB) {
	t.Helper()
	r.c.Exec(t, "sh", "-c", "for f in /proc/sys/net/ipv?/neigh/tap0/retrans_time_ms; do echo 10 > $f; done")
}

// family returns the container's part of the plan that fits.
func (r *rig) family(f attachtest.Family) tap.Family { return r.plan.Of(f.PeerAddr) }

// counter returns the value of a counter.
func (r *rig) counter(t testing.TB, name string) uint64 {
	t.Helper()
	for _, c := range r.s.Counters() {
		if c.Name == name {
			return c.Value
		}
	}
	t.Fatalf("there is no counter %q", name)
	return 0
}

func newPlan(t testing.TB) tap.Plan {
	t.Helper()
	p, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// families runs a test for each address family.
func families(t *testing.T, test func(*testing.T, attachtest.Family)) {
	for _, f := range attachtest.Families() {
		t.Run(f.Name, func(t *testing.T) { test(t, f) })
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
