// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the switches that Join starts.
func TestMain(m *testing.M) {
	if IsSwitch(os.Args) {
		os.Exit(switchMain(os.Args))
	}
	os.Exit(attachtest.Main(m))
}

func switchMain(args []string) int {
	cfg, err := SwitchConfig(args)
	if err != nil {
		return 1
	}
	s, err := New(cfg)
	if err != nil {
		return 1
	}
	defer s.Close()
	if err := s.Run(context.Background()); err != nil {
		return 1
	}
	return 0
}

// A guest is a container that is a member.
type guest struct {
	*attachtest.Place
	*Member
	leave func() // ends Run, and closes the member
}

func newGuest(t testing.TB, dir string, names ...string) *guest {
	t.Helper()
	c := attachtest.NewContainer(t)
	m, err := Join(JoinConfig{Dir: dir, Names: names, Target: tap.Target{PID: c.PID()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	g := &guest{Place: c, Member: m, leave: sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})}
	t.Cleanup(g.leave)
	return g
}

// network returns the directory of a new network, whose switch has ended by the end of
// the test.
func network(t testing.TB) string {
	t.Helper()
	attachtest.Open(t)
	dir := filepath.Join(t.TempDir(), "net")
	t.Cleanup(func() {
		attachtest.Eventually(t, "the switch's end", func() bool { return switchPID(dir) == 0 })
	})
	return dir
}

// switchPID returns the process that is the switch of the network, or 0.
func switchPID(dir string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil || string(b) != SwitchArg+"\x00"+dir+"\x00" {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(f, "/proc/%d/cmdline", &pid); err == nil {
			return pid
		}
	}
	return 0
}

// talk sends text from one to the other by TCP.
func talk(t testing.TB, from, to *guest, addr netip.Addr) {
	t.Helper()
	l := to.Listen(t, netip.AddrPortFrom(addr, 0))
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	c, err := from.Dial(t, "tcp", at)
	if err != nil {
		t.Fatalf("connect to %s: %v", at, err)
	}
	defer c.Close()
	if err := l.SetDeadline(time.Now().Add(attachtest.Patience)); err != nil {
		t.Fatal(err)
	}
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := from.Addrs()[0].Addr()
	if addr.Is6() {
		want = from.Addrs()[1].Addr()
	}
	if got := netip.MustParseAddrPort(s.RemoteAddr().String()).Addr(); got != want {
		t.Errorf("the other sees %s, want %s", got, want)
	}
	sent := strings.Repeat("0123456789abcdef", 1<<16)
	go func() {
		_, _ = io.WriteString(c, sent)
		c.Close()
	}()
	if err := s.SetDeadline(time.Now().Add(attachtest.Patience)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil || string(got) != sent {
		t.Errorf("the other read %d bytes, %v, want %d", len(got), err, len(sent))
	}
}

// TestNetwork has three containers reach each other, by address and by name.
func TestNetwork(t *testing.T) {
	dir := network(t)
	web, db, extra := newGuest(t, dir, "web", "shared"), newGuest(t, dir, "db", "shared"), newGuest(t, dir, "Extra")
	for _, a := range db.Addrs() {
		talk(t, web, db, a.Addr())
		talk(t, extra, db, a.Addr())
	}
	attachtest.Eventually(t, "all three names", func() bool { return web.Lookup("extra") != nil })
	for name, want := range map[string][]netip.Prefix{
		"web": web.Addrs(), "DB": db.Addrs(), "extra": extra.Addrs(),
		"shared": slices.Concat(web.Addrs(), db.Addrs()), "nobody": nil,
	} {
		got := extra.Lookup(name)
		ok := len(got) == len(want)
		for _, p := range want {
			ok = ok && slices.Contains(got, p.Addr())
		}
		if !ok {
			t.Errorf("%s is at %v, want %v", name, got, want)
		}
	}
	db.leave()
	attachtest.Eventually(t, "the name of who left", func() bool { return web.Lookup("db") == nil })
	if out, code := web.Place.Run(t, "ping", "-c", "1", "-W", "5", extra.Addrs()[0].Addr().String()); code != 0 {
		t.Errorf("ping: %s", out)
	}
	if got := web.Exec(t, "ip", "route", "show", "default"); got != "" {
		t.Errorf("the network brought a default route: %s", got)
	}
}

// TestSwitchEnds starts a switch with the first member, and ends it after the last.
func TestSwitchEnds(t *testing.T) {
	dir := network(t)
	for range 2 {
		g := newGuest(t, dir, "only")
		if switchPID(dir) == 0 {
			t.Fatal("there is no switch")
		}
		g.leave()
		attachtest.Eventually(t, "the switch's end", func() bool { return switchPID(dir) == 0 })
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in the directory: %v, %v", left, err)
		}
	}
}

// TestSwitchKilled has members find each other again, with the addresses they had.
func TestSwitchKilled(t *testing.T) {
	dir := network(t)
	a, b := newGuest(t, dir, "a"), newGuest(t, dir, "b")
	for range 2 {
		old := switchPID(dir)
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		attachtest.Eventually(t, "another switch with both", func() bool {
			pid := switchPID(dir)
			if pid == 0 || pid == old {
				return false
			}
			out, code := a.Place.Run(t, "ping", "-c", "1", "-W", "1", b.Addrs()[0].Addr().String())
			return code == 0 && out != ""
		})
	}
	for _, p := range a.Addrs() {
		talk(t, b, a, p.Addr())
	}
}

// TestSupervisorDies closes a member's socket alone: the others hear of it.
func TestSupervisorDies(t *testing.T) {
	dir := network(t)
	a, b := newGuest(t, dir, "a"), newGuest(t, dir, "b")
	attachtest.Eventually(t, "the other's name", func() bool { return a.Lookup("b") != nil })
	b.leave()
	attachtest.Eventually(t, "its end", func() bool { return a.Lookup("b") == nil })
	if out := b.Exec(t, "ip", "-br", "link"); strings.Contains(out, DefaultInterface) {
		t.Errorf("the interface is left: %s", out)
	}
}

// TestSpoof sends frames that are not what they say they are.
func TestSpoof(t *testing.T) {
	dir := network(t)
	a, b := newGuest(t, dir, "a"), newGuest(t, dir, "b")
	other := b.Addrs()[0].Addr().Next().String()
	for _, change := range []string{
		"ip addr add " + other + "/24 dev eth1; ping -c 1 -W 1 -I " + other + " " + b.Addrs()[0].Addr().String(),
		"ip link set eth1 address 5a:57:0a:59:00:fe; ping -c 1 -W 1 " + b.Addrs()[0].Addr().String(),
	} {
		if out, code := a.Place.Run(t, "sh", "-c", change); code == 0 {
			t.Errorf("%s: answered: %s", change, out)
		}
	}
}

// TestManyAtOnce has members come and go side by side.
func TestManyAtOnce(t *testing.T) {
	dir := network(t)
	const n = 8
	var guests [n]*guest
	var places [n]*attachtest.Place
	for i := range n {
		places[i] = attachtest.NewContainer(t)
	}
	var joining sync.WaitGroup
	for i := range n {
		joining.Go(func() {
			m, err := Join(JoinConfig{Dir: dir, Names: []string{fmt.Sprintf("m%d", i)}, Target: tap.Target{PID: places[i].PID()}})
			if err != nil {
				t.Errorf("member %d: %v", i, err)
				return
			}
			guests[i] = &guest{Place: places[i], Member: m}
		})
	}
	joining.Wait()
	seen := map[netip.Prefix]bool{}
	for _, g := range guests {
		if g == nil {
			t.FailNow()
		}
		seen[g.Addrs()[0]] = true
	}
	if len(seen) != n {
		t.Errorf("%d members have %d addresses", n, len(seen))
	}
	for _, g := range guests {
		if err := g.Member.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestJoinFails leaves nothing in the container.
func TestJoinFails(t *testing.T) {
	dir := network(t)
	c := attachtest.NewContainer(t)
	target := tap.Target{PID: c.PID()}
	c.Exec(t, "ip", "link", "add", "taken", "type", "veth", "peer", "name", "other")
	wide := filepath.Join(t.TempDir(), "wide")
	if err := os.Mkdir(wide, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cfg  JoinConfig
		want string
	}{
		{"interface taken", JoinConfig{Dir: dir, Target: target, Interface: "taken"}, "taken"},
		{"bad name", JoinConfig{Dir: dir, Target: target, Names: []string{"a b"}}, `name "a b"`},
		{"directory open to others", JoinConfig{Dir: wide, Target: target}, "remove it"},
		{"no switch", JoinConfig{Dir: dir + "2", Target: target, Launch: func(_ string, l int) error { return unix.Close(l) }}, "connect to the switch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := c.Exec(t, "ip", "-br", "link")
			fds := openFDs(t)
			m, err := Join(tt.cfg)
			if err == nil {
				m.Close()
				t.Fatal("joined")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want %q in it", err, tt.want)
			}
			if after := c.Exec(t, "ip", "-br", "link"); after != before {
				t.Errorf("the container has\n%safter\n%s", after, before)
			}
			attachtest.Eventually(t, "descriptors closed", func() bool { return openFDs(t) <= fds })
		})
	}
}

func openFDs(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
