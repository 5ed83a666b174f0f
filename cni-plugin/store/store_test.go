// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-net/slipway/cni-plugin/store"
)

// never and always are helpers that run in no attachment, and in all.
func never(string) bool  { return false }
func always(string) bool { return true }

// open opens the attachment of a container's interface to the network net.
func open(t *testing.T, state, container, ifname string) *store.Entry {
	t.Helper()
	e, err := store.Open(t.Context(), state, "net", container, ifname)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// reserve records it.
func reserve(t *testing.T, e *store.Entry, i store.Info) {
	t.Helper()
	err := e.Reserve(t.Context(), never, func([]store.Info) (store.Info, error) { return i, nil })
	if err != nil {
		t.Fatal(err)
	}
}

// left returns the names below a directory.
func left(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestRecord(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	e := open(t, state, "one", "eth0")
	if got := e.Info(); !got.Created.IsZero() || got.Network != "" {
		t.Errorf("before there is a record: %+v", got)
	}
	want := store.Info{
		Network: "net", ContainerID: "one", IfName: "eth0", NetNS: "/run/netns/x", NSDev: 4, NSIno: 1 << 40, Publishes: true,
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd00::/64")},
		Created:  time.Unix(1700000000, 5).UTC(),
	}
	reserve(t, e, want)
	e.Close()
	found, err := store.Find(t.Context(), state, "net", "one", "eth0")
	if err != nil || found == nil {
		t.Fatalf("Find: %v, %v", found, err)
	}
	defer found.Close()
	if diff := cmp.Diff(want, found.Info(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	for _, other := range [][3]string{{"net", "one", "eth1"}, {"net", "two", "eth0"}, {"other", "one", "eth0"}} {
		if e, err := store.Find(t.Context(), state, other[0], other[1], other[2]); e != nil || err != nil {
			t.Errorf("Find of %v: %v, %v, want none", other, e, err)
		}
	}
}

// TestLock has one command at a time for an attachment, and others beside it.
func TestLock(t *testing.T) {
	state := t.TempDir()
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	e := open(t, state, "one", "eth0")
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := store.Open(short, state, "net", "one", "eth0"); !errors.Is(err, store.ErrBusy) {
		t.Errorf("Open of a locked one: %v, want ErrBusy", err)
	}
	if _, err := store.Find(short, state, "net", "one", "eth0"); !errors.Is(err, store.ErrBusy) {
		t.Errorf("Find of a locked one: %v, want ErrBusy", err)
	}
	open(t, state, "one", "eth1").Close()
	got := make(chan *store.Entry)
	go func() {
		e, err := store.Open(t.Context(), state, "net", "one", "eth0")
		if err != nil {
			t.Error(err)
		}
		got <- e
	}()
	e.Close()
	(<-got).Close()
}

// TestRemovedWhileWaiting has somebody wait for an entry that is removed: what it gets
// is there.
func TestRemovedWhileWaiting(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			for range 25 {
				e, err := store.Open(t.Context(), state, "net", "one", "eth0")
				if err != nil {
					return err
				}
				if err := os.WriteFile(e.PidFile(), nil, 0o600); err != nil {
					return fmt.Errorf("the entry is not there: %w", err)
				}
				if err := errors.Join(e.Remove(), e.Close()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if names := left(t, state); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

// TestReserve gives each attachment of a container a number of its own, however many
// come at once.
func TestReserve(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	const many = 16
	other := open(t, state, "two", "eth0")
	defer other.Close()
	reserve(t, other, store.Info{ContainerID: "two", NSIno: 99})
	var g errgroup.Group
	for i := range many {
		g.Go(func() error {
			e, err := store.Open(t.Context(), state, "net"+fmt.Sprint(i%3), "one", fmt.Sprint("eth", i))
			if err != nil {
				return err
			}
			defer e.Close()
			return e.Reserve(t.Context(), always, func(others []store.Info) (store.Info, error) {
				highest := uint64(0)
				for _, o := range others {
					highest = max(highest, o.NSIno)
				}
				return store.Info{Network: "net" + fmt.Sprint(i%3), IfName: fmt.Sprint("eth", i), NSIno: highest + 1}, nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for i := range 3 {
		err := store.Each(state, "net"+fmt.Sprint(i), func(e *store.Entry) error {
			seen[e.Info().NSIno] = true
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if len(seen) != many || seen[99] || seen[0] {
		t.Errorf("the numbers are %v, want 1 to %d", seen, many)
	}
}

// TestReserveCounts says who counts: whose helper runs, or who is being worked at.
func TestReserveCounts(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	gone, busy, mine := open(t, state, "one", "eth1"), open(t, state, "one", "eth2"), open(t, state, "one", "eth0")
	defer mine.Close()
	defer busy.Close()
	reserve(t, gone, store.Info{IfName: "eth1"})
	reserve(t, busy, store.Info{IfName: "eth2"})
	gone.Close()
	var names []string
	note := func(others []store.Info) (store.Info, error) {
		names = nil
		for _, o := range others {
			names = append(names, o.IfName)
		}
		return store.Info{}, errors.New("no")
	}
	for _, tt := range []struct {
		runs func(string) bool
		want string
	}{
		{never, "eth2"},
		{always, "eth1 eth2"},
		{func(pidfile string) bool { return pidfile == gone.PidFile() }, "eth1 eth2"},
	} {
		err := mine.Reserve(t.Context(), tt.runs, note)
		if len(names) == 2 && names[0] > names[1] {
			names[0], names[1] = names[1], names[0]
		}
		if got := strings.Join(names, " "); got != tt.want || err == nil || err.Error() != "no" {
			t.Errorf("others %q, error %v, want %q", got, err, tt.want)
		}
	}
	if got := mine.Info(); got.IfName != "" {
		t.Errorf("what failed was recorded: %+v", got)
	}
}

// TestKilled has a plugin killed after each step of an ADD: DEL, and the next ADD's
// sweep, leave nothing of it, and a new ADD may begin.
func TestKilled(t *testing.T) {
	steps := []func(t *testing.T, e *store.Entry) error{
		func(*testing.T, *store.Entry) error { return nil },
		func(_ *testing.T, e *store.Entry) error {
			return os.WriteFile(filepath.Join(filepath.Dir(e.PidFile()), "attachment.json.new"), []byte(`{"netw`), 0o600)
		},
		func(t *testing.T, e *store.Entry) error { reserve(t, e, store.Info{Network: "net"}); return nil },
		func(_ *testing.T, e *store.Entry) error { return os.WriteFile(e.Log(), []byte("hello\n"), 0o600) },
		func(_ *testing.T, e *store.Entry) error { return os.WriteFile(e.API(), nil, 0o600) },
	}
	ends := map[string]func(t *testing.T, state string){
		"DEL": func(t *testing.T, state string) {
			e, err := store.Find(t.Context(), state, "net", "one", "eth0")
			if err != nil || e == nil {
				t.Fatalf("Find: %v, %v", e, err)
			}
			if err := errors.Join(e.Remove(), e.Close()); err != nil {
				t.Error(err)
			}
		},
		"sweep": func(_ *testing.T, state string) { store.Sweep(state, "net") },
		"ADD": func(t *testing.T, state string) {
			e := open(t, state, "one", "eth0")
			reserve(t, e, store.Info{Network: "net"})
			if err := errors.Join(e.Remove(), e.Close()); err != nil {
				t.Error(err)
			}
		},
	}
	for name, end := range ends {
		for n := range steps {
			state := filepath.Join(t.TempDir(), "state")
			e := open(t, state, "one", "eth0")
			for _, step := range steps[:n+1] {
				if err := step(t, e); err != nil {
					t.Fatal(err)
				}
			}
			e.Close() // as the kernel does
			end(t, state)
			if names := left(t, state); len(names) > 0 {
				t.Errorf("%s after step %d leaves %q", name, n, names)
			}
		}
	}
	// Killed before there was an entry.
	state := filepath.Join(t.TempDir(), "state")
	e := open(t, state, "one", "eth0")
	of := filepath.Dir(filepath.Dir(e.PidFile()))
	if err := errors.Join(e.Remove(), e.Close(), os.Mkdir(of, 0o700)); err != nil {
		t.Fatal(err)
	}
	if e, err := store.Find(t.Context(), state, "net", "one", "eth0"); e != nil || err != nil {
		t.Errorf("Find: %v, %v, want none", e, err)
	}
	if names := left(t, state); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

// TestSweepSpares leaves alone what runs, may run, or is worked at.
func TestSweepSpares(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	runs, busy, over := open(t, state, "runs", "eth0"), open(t, state, "busy", "eth0"), open(t, state, "over", "eth0")
	defer busy.Close()
	if err := os.WriteFile(runs.PidFile(), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runs.Close()
	over.Close()
	store.Sweep(state, "net")
	for name, want := range map[string]bool{"runs": true, "over": false} {
		e, err := store.Find(t.Context(), state, "net", name, "eth0")
		if err != nil || (e != nil) != want {
			t.Errorf("%s: %v, %v, want it there: %v", name, e, err, want)
		}
		if e != nil {
			e.Close()
		}
	}
	if _, err := os.Stat(filepath.Dir(busy.PidFile())); err != nil {
		t.Errorf("what was worked at: %v", err)
	}
}

// TestEachJoinsErrors goes on after an error.
func TestEachJoinsErrors(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	for _, name := range []string{"a", "b", "c"} {
		open(t, state, name, "eth0").Close()
	}
	n := 0
	err := store.Each(state, "net", func(*store.Entry) error { n++; return fmt.Errorf("no %d", n) })
	if n != 3 || err == nil || strings.Count(err.Error(), "no ") != 3 {
		t.Errorf("%d entries, error %v, want three of each", n, err)
	}
	if err := store.Each(state, "unknown", func(*store.Entry) error { return errors.New("none is there") }); err != nil {
		t.Error(err)
	}
}

// TestStateDirectory refuses one in which others could plant what they like.
func TestStateDirectory(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a link":              func(path string) error { return os.Symlink(filepath.Dir(path), path) },
		"a file":              func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"writable by a group": func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o770)) },
		"writable by all":     func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o702)) },
	} {
		path := filepath.Join(t.TempDir(), "state")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), path, "net", "one", "eth0"); err == nil || !strings.Contains(err.Error(), "set stateDir") {
			t.Errorf("%s: error %v, want what to do about it", name, err)
		}
		if err := store.Usable(path); err == nil {
			t.Errorf("%s: it is said to be usable", name)
		}
	}
	// An entry that is a link is not followed.
	state := filepath.Join(t.TempDir(), "state")
	e := open(t, state, "one", "eth0")
	path := filepath.Dir(e.PidFile())
	keep := open(t, state, "two", "eth0")
	defer keep.Close()
	target := t.TempDir()
	if err := errors.Join(e.Remove(), e.Close(), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Find(t.Context(), state, "net", "one", "eth0"); err == nil {
		t.Error("a link was taken for an entry")
	}
}

func TestDir(t *testing.T) {
	if got, err := store.Dir("/a/../b/"); got != "/b" || err != nil {
		t.Errorf("the configured one: %s, %v", got, err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root's does not depend on variables")
	}
	run := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", run)
	if got, err := store.Dir(""); got != filepath.Join(run, "slipway-cni") || err != nil {
		t.Errorf("with XDG_RUNTIME_DIR %s: %s, %v", run, got, err)
	}
	for _, bad := range []string{"", "relative", "/nonexistent"} {
		t.Setenv("XDG_RUNTIME_DIR", bad)
		if got, err := store.Dir(""); err != nil || !filepath.IsAbs(got) || strings.HasPrefix(got, "/nonexistent") {
			t.Errorf("with XDG_RUNTIME_DIR %q: %s, %v", bad, got, err)
		}
	}
}

// FuzzInfo reads what somebody left in the place of a record.
func FuzzInfo(f *testing.F) {
	state := filepath.Join(f.TempDir(), "state")
	e, err := store.Open(f.Context(), state, "net", "one", "eth0")
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	f.Add([]byte(`{"network":"net","networks":["10.0.2.0/24"],"created":"2020-01-01T00:00:00Z"}`))
	f.Add([]byte(strings.Repeat(" ", 64<<10) + "{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(filepath.Dir(e.PidFile()), "attachment.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if i := e.Info(); len(text) > 64<<10 && i.Network != "" {
			t.Errorf("%d bytes were read", len(text))
		}
	})
}
