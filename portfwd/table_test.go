// SPDX-License-Identifier: Apache-2.0

package portfwd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/tap"
)

// fakeStack has the listeners that it was given, and serves none.
type fakeStack struct {
	t testing.TB

	mu        sync.Mutex
	open      map[int]portfwd.Listener
	published []int // how many, by call
	withdrawn [][]int
	cut       []bool
	stuck     bool          // Withdraw waits for its ctx
	changed   chan struct{} // has something after each call, if not nil
}

func (s *fakeStack) Publish(ls []portfwd.Listener) {
	defer s.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = append(s.published, len(ls))
	for _, l := range ls {
		if _, ok := s.open[l.ID]; ok || l.ID == 0 {
			s.t.Errorf("listener %+v: its ID is not new", l)
		}
		listens, err := unix.GetsockoptInt(l.FD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err != nil || (listens == 1) != (l.Proto == portfwd.TCP) {
			s.t.Errorf("listener %+v: listening is %d, %v", l, listens, err)
		}
		s.open[l.ID] = l
	}
}

func (s *fakeStack) Withdraw(ctx context.Context, ids []int, cut bool) {
	if s.stuck {
		<-ctx.Done()
		return
	}
	defer s.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withdrawn, s.cut = append(s.withdrawn, ids), append(s.cut, cut)
	for _, id := range ids {
		l, ok := s.open[id]
		if !ok {
			s.t.Errorf("listener %d is withdrawn and not there", id)
			continue
		}
		if err := unix.Close(l.FD); err != nil {
			s.t.Error(err)
		}
		delete(s.open, id)
	}
}

func (s *fakeStack) tell() {
	if s.changed != nil {
		s.changed <- struct{}{}
	}
}

func (s *fakeStack) listener(t testing.TB, id int) portfwd.Listener {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.open[id]
	if !ok {
		t.Fatalf("the stack has no listener %d", id)
	}
	return l
}

func (s *fakeStack) calls() (published, withdrawn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.published), len(s.withdrawn)
}

func newTable(t testing.TB, limit int) (*portfwd.Table, *fakeStack) {
	t.Helper()
	s := &fakeStack{t: t, open: map[int]portfwd.Listener{}}
	table := portfwd.New(portfwd.Config{Stack: s, Plan: plan(t), Max: limit})
	before := openFiles(t)
	t.Cleanup(func() {
		table.Close()
		if after := openFiles(t); after > before {
			t.Errorf("%d descriptors are open, %d before", after, before)
		}
	})
	return table, s
}

func plan(t testing.TB) tap.Plan {
	t.Helper()
	p, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openFiles(t testing.TB) int {
	t.Helper()
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(es)
}

func parse(t testing.TB, rules ...string) []portfwd.Rule {
	t.Helper()
	var rs []portfwd.Rule
	for _, s := range rules {
		r, err := portfwd.ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

func add(t testing.TB, table *portfwd.Table, rules ...string) []portfwd.Port {
	t.Helper()
	ports, err := table.Add(t.Context(), parse(t, rules...))
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// refused wants Add to fail with an error of a kind that says something, and to
// leave nothing behind.
func refused(t *testing.T, table *portfwd.Table, kind error, says []string, rules ...string) {
	t.Helper()
	before, files := table.Ports(), openFiles(t)
	ports, err := table.Add(t.Context(), parse(t, rules...))
	if !errors.Is(err, kind) || ports != nil {
		t.Fatalf("Add(%q) = %v, %v; want %v", rules, ports, err, kind)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("Add(%q): %v; want it to say %q", rules, err, s)
		}
	}
	if diff := cmp.Diff(before, table.Ports(), equal); diff != "" {
		t.Errorf("the table has changed:\n%s", diff)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d descriptors are open, %d before", now, files)
	}
}

// wantIPv6 skips a test on a host without IPv6.
func wantIPv6(t testing.TB) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skip("no IPv6: ", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}); err != nil {
		t.Skip("no IPv6: ", err)
	}
}

func TestAdd(t *testing.T) {
	wantIPv6(t)
	table, stack := newTable(t, 0)
	a := netip.MustParseAddr
	tests := []struct {
		rule string
		want portfwd.Port // without ID and host port
		host string       // what the socket is bound to
	}{
		{"80", portfwd.Port{Proto: portfwd.TCP, Container: netip.AddrPortFrom(netip.Addr{}, 80)}, "::"},
		{"0.0.0.0::81", portfwd.Port{Proto: portfwd.TCP, Host: netip.AddrPortFrom(a("0.0.0.0"), 0), Container: netip.AddrPortFrom(netip.Addr{}, 81)}, "0.0.0.0"},
		{"[::1]::82/udp,loopback", portfwd.Port{Proto: portfwd.UDP, Host: netip.AddrPortFrom(a("::1"), 0), Container: netip.AddrPortFrom(netip.Addr{}, 82), Loopback: true}, "::1"},
		{"127.0.0.1::10.0.2.15:83,defer", portfwd.Port{Proto: portfwd.TCP, Host: netip.AddrPortFrom(a("127.0.0.1"), 0), Container: netip.MustParseAddrPort("10.0.2.15:83"), Defer: true}, "127.0.0.1"},
		{"%lo::84/udp", portfwd.Port{Proto: portfwd.UDP, Interface: "lo", Container: netip.AddrPortFrom(netip.Addr{}, 84)}, "::"},
	}
	var rules []string
	for _, tt := range tests {
		rules = append(rules, tt.rule)
	}
	ports := add(t, table, rules...)
	if diff := cmp.Diff(ports, table.Ports(), equal); diff != "" {
		t.Errorf("Ports (-added +got):\n%s", diff)
	}
	for i, tt := range tests {
		p := ports[i]
		if p.ID != i+1 || p.Host.Port() == 0 {
			t.Errorf("%s: ID %d, port %d", tt.rule, p.ID, p.Host.Port())
		}
		tt.want.ID, tt.want.Host = i+1, netip.AddrPortFrom(tt.want.Host.Addr(), p.Host.Port())
		if diff := cmp.Diff(tt.want, p, equal); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.rule, diff)
		}
		l := stack.listener(t, p.ID)
		want := portfwd.Listener{
			ID: p.ID, Proto: p.Proto, FD: l.FD, Host: netip.AddrPortFrom(a(tt.host), p.Host.Port()),
			Container: p.Container, Loopback: p.Loopback,
		}
		if diff := cmp.Diff(want, l, equal); diff != "" {
			t.Errorf("%s: listener (-want +got):\n%s", tt.rule, diff)
		}
		if again, err := portfwd.ParseRule(p.String()); err != nil || again != p.Rule() {
			t.Errorf("%s: %q parses as %+v, %v", tt.rule, p, again, err)
		}
	}
	if diff := cmp.Diff([]int{len(tests)}, stack.published); diff != "" {
		t.Errorf("calls of Publish (-want +got):\n%s", diff)
	}
}

// TestSocketOptions reads what the stack counts on.
func TestSocketOptions(t *testing.T) {
	wantIPv6(t)
	table, stack := newTable(t, 0)
	type option struct {
		what        string
		level, name int
		want        int
	}
	tcp := []option{
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 1},
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	}
	for _, tt := range []struct {
		rule string
		want []option
	}{
		{"80", append(tcp, option{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0})},
		{"[::]::80", append(tcp, option{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})},
		{"0.0.0.0::80", append(tcp, option{"SO_DOMAIN", unix.SOL_SOCKET, unix.SO_DOMAIN, unix.AF_INET})},
		{"80/udp", []option{{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 0}}},
	} {
		fd := stack.listener(t, add(t, table, tt.rule)[0].ID).FD
		for _, o := range tt.want {
			if got, err := unix.GetsockoptInt(fd, o.level, o.name); err != nil || got != o.want {
				t.Errorf("%s: %s is %d, %v; want %d", tt.rule, o.what, got, err, o.want)
			}
		}
		for _, f := range []struct{ cmd, bit int }{{unix.F_GETFL, unix.O_NONBLOCK}, {unix.F_GETFD, unix.FD_CLOEXEC}} {
			if got, err := unix.FcntlInt(uintptr(fd), f.cmd, 0); err != nil || got&f.bit == 0 {
				t.Errorf("%s: flags %#x, %v; want %#x in them", tt.rule, got, err, f.bit)
			}
		}
	}
	deferred := stack.listener(t, add(t, table, "80,defer")[0].ID).FD
	if got, err := unix.GetsockoptInt(deferred, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT); err != nil || got == 0 {
		t.Errorf("TCP_DEFER_ACCEPT is %d, %v", got, err)
	}
	bound := stack.listener(t, add(t, table, "%lo::80")[0].ID).FD
	if got, err := unix.GetsockoptString(bound, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil || got != "lo" {
		t.Errorf("SO_BINDTODEVICE is %q, %v", got, err)
	}
}

// TestFamilies connects by each family to ports of both and of one.
func TestFamilies(t *testing.T) {
	wantIPv6(t)
	table, _ := newTable(t, 0)
	both := add(t, table, "80")[0].Host.Port()
	shared := add(t, table, "0.0.0.0::80")[0]
	six := add(t, table, fmt.Sprintf("[::]:%d:80", shared.Host.Port()))[0].Host.Port()
	four := add(t, table, "0.0.0.0::80")[0].Host.Port()
	if err := table.Remove(t.Context(), []int{shared.ID}, false); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		port   uint16
		host   string
		accept bool
	}{
		{both, "127.0.0.1", true}, {both, "::1", true},
		{four, "127.0.0.1", true}, {four, "::1", false},
		{six, "127.0.0.1", false}, {six, "::1", true},
	} {
		c, err := net.Dial("tcp", net.JoinHostPort(tt.host, strconv.Itoa(int(tt.port))))
		if err == nil {
			c.Close()
		}
		if (err == nil) != tt.accept {
			t.Errorf("dial %s port %d of %d, %d, %d: %v", tt.host, tt.port, both, four, six, err)
		}
	}
}

func TestRange(t *testing.T) {
	table, _ := newTable(t, 0)
	ports := add(t, table, "0:8000-8009/udp", "0:8000-8009")
	for i, p := range ports {
		if p.ID != i+1 || int(p.Container.Port()) != 8000+i%10 {
			t.Errorf("port %d is %+v", i, p)
		}
	}
	if len(ports) != 20 {
		t.Errorf("%d ports, want 20", len(ports))
	}
}

// TestInUse wants to know who has the port.
func TestInUse(t *testing.T) {
	table, _ := newTable(t, 0)
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprintf("process %d (%s)", os.Getpid(), strings.TrimSpace(string(comm)))
	tcpPort, udpPort := portOf(t, tcp.Addr()), portOf(t, udp.LocalAddr())
	for _, tt := range []struct {
		rule string
		says []string
	}{
		{fmt.Sprintf("127.0.0.1:%d:80", tcpPort), []string{fmt.Sprintf("host port %d/tcp at 127.0.0.1 is in use", tcpPort), me}},
		{fmt.Sprintf("%d:80", tcpPort), []string{fmt.Sprintf("host port %d/tcp at every address is in use at 127.0.0.1", tcpPort), me}},
		{fmt.Sprintf("127.0.0.1:%d:80/udp", udpPort), []string{fmt.Sprintf("host port %d/udp at 127.0.0.1 is in use", udpPort), me}},
		{fmt.Sprintf("0.0.0.0:%d:80/udp", udpPort), []string{"at 127.0.0.1", me}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			refused(t, table, portfwd.ErrInUse, append(tt.says, "choose another port"), "0:1-20", tt.rule)
		})
	}
}

// TestInUseByAnother has another program hold the port.
func TestInUseByAnother(t *testing.T) {
	table, _ := newTable(t, 0)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(t, l.Addr())
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	l.Close()
	refused(t, table, portfwd.ErrInUse, []string{fmt.Sprintf("process %d (cat)", cmd.Process.Pid)}, fmt.Sprintf("%d:80", port))
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	add(t, table, fmt.Sprintf("%d:80", port))
}

func portOf(t *testing.T, a net.Addr) uint16 {
	t.Helper()
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return ap.Port()
}

// TestCollisions are seen before anything is tried.
func TestCollisions(t *testing.T) {
	table, stack := newTable(t, 0)
	p := add(t, table, "127.0.0.1::80")[0].Host.Port()
	lo := add(t, table, "%lo::80")[0].Host.Port()
	calls, _ := stack.calls()
	for _, tt := range []struct {
		says  string
		rules []string
	}{
		{fmt.Sprintf("taken by port 1 of this container, 127.0.0.1:%d:80/tcp: remove it first", p), []string{fmt.Sprintf("127.0.0.1:%d:90", p)}},
		{"taken by port 1 of this container", []string{fmt.Sprintf("%d:90", p)}},
		{"taken by port 1 of this container", []string{fmt.Sprintf("0.0.0.0:%d:90", p)}},
		{"taken by port 1 of this container", []string{fmt.Sprintf("127.0.0.1%%lo:%d:90", p)}},
		{"taken by port 1 of this container", []string{"1", fmt.Sprintf("%d-%d:1-2", p-1, p)}},
		{"taken by port 2 of this container", []string{fmt.Sprintf("127.0.0.1:%d:90", lo)}},
		{"taken by another of the same rules, 127.0.0.1:4000:1/tcp", []string{"127.0.0.1:4000:1", "4000:2"}},
		{"publish 4005:1/tcp: host port 4005/tcp at every address is taken by another of the same rules", []string{"4000-4009:1-10", "4005:1"}},
		{"another of the same rules", []string{"[::]:4000:1", "[::1]:4000:1"}},
	} {
		t.Run(strings.Join(tt.rules, " "), func(t *testing.T) {
			refused(t, table, portfwd.ErrInUse, []string{tt.says}, tt.rules...)
		})
	}
	if now, _ := stack.calls(); now != calls {
		t.Errorf("Publish was called %d times", now-calls)
	}
	wantIPv6(t)
	add(t, table, fmt.Sprintf("[::1]:%d:80", p), fmt.Sprintf("127.0.0.2:%d:80", p), fmt.Sprintf("127.0.0.1:%d:80/udp", p))
}

// TestPrivileged binds a low port on a thread that has no right to.
func TestPrivileged(t *testing.T) {
	start, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		t.Fatal(err)
	}
	first := strings.TrimSpace(string(start))
	if n, err := strconv.Atoi(first); err != nil || n < 1024 {
		t.Skipf("everybody may have ports from %q on", first)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	table, _ := newTable(t, 0)
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&head, &none[0]); err != nil {
			t.Error(err)
			return
		}
		_, err = table.Add(t.Context(), parse(t, "0:80", "127.0.0.1:81:80/udp"))
	})
	wg.Wait()
	if !errors.Is(err, portfwd.ErrPrivileged) || !errors.Is(err, unix.EACCES) {
		t.Fatalf("Add: %v, want ErrPrivileged", err)
	}
	for _, s := range []string{
		"publish 127.0.0.1:81:80/udp: ", "`sudo sysctl net.ipv4.ip_unprivileged_port_start=81`",
		"`sudo setcap cap_net_bind_service=ep " + self + "`", "from " + first + " on",
	} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("Add: %v; want it to say %q", err, s)
		}
	}
}

// TestNoDescriptors has the process run out of them.
func TestNoDescriptors(t *testing.T) {
	table, _ := newTable(t, 0)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	files := openFiles(t)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(files) + 10, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := table.Add(t.Context(), parse(t, "0:1-50"))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, portfwd.ErrTooMany) || !strings.Contains(err.Error(), "`ulimit -n`") || !strings.Contains(err.Error(), strconv.Itoa(files+10)) {
		t.Errorf("Add: %v; want ErrTooMany that names the limit %d", err, files+10)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d descriptors are open, %d before", now, files)
	}
	add(t, table, "0:1-50")
}

func TestAddRefuses(t *testing.T) {
	table, _ := newTable(t, 20)
	for _, tt := range []struct {
		name string
		kind error
		says []string
		rule string
	}{
		{"address", portfwd.ErrNotOurs, []string{"publish 192.0.2.1:0:80/tcp", "no address of this host", "`ip address`"}, "192.0.2.1::80"},
		{"link-local address", portfwd.ErrNotOurs, []string{"no address of this host"}, "[fe80::1]%lo::80"},
		{"interface", portfwd.ErrNoInterface, []string{"no interface nosuch0", "`ip link`"}, "%nosuch0::80"},
		{"interface of a link-local address", portfwd.ErrNoInterface, []string{"no interface nosuch0"}, "[fe80::1]%nosuch0::80"},
		{"gateway", portfwd.ErrRule, []string{"10.0.2.2 is slipway's own"}, "0:10.0.2.2:80"},
		{"resolver", portfwd.ErrRule, []string{"fd00::3 is slipway's own"}, "0:[fd00::3]:80"},
		{"router", portfwd.ErrRule, []string{"fe80::2 is slipway's own"}, "0:[fe80::2]:80"},
		{"too many", portfwd.ErrTooMany, []string{"22 more ports", "at most 20"}, "0:1-21"},
		{"far too many", portfwd.ErrTooMany, []string{"65536 more ports"}, "1-65535:1-65535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refused(t, table, tt.kind, tt.says, "1", tt.rule)
		})
	}
	add(t, table, "0:1-15")
	refused(t, table, portfwd.ErrTooMany, []string{"6 more ports, with 15 published"}, "0:1-6")
	if _, err := table.Add(t.Context(), []portfwd.Rule{{}}); !errors.Is(err, portfwd.ErrRule) {
		t.Errorf("Add of the zero Rule: %v", err)
	}
	if ports, err := table.Add(t.Context(), nil); err != nil || len(ports) != 0 {
		t.Errorf("Add of nothing = %v, %v", ports, err)
	}
	four := tap.Plan{V4: plan(t).V4}
	if _, err := portfwd.New(portfwd.Config{Stack: &fakeStack{t: t}, Plan: four}).Add(t.Context(), parse(t, "0:[fd00::7]:80")); !errors.Is(err, portfwd.ErrRule) {
		t.Errorf("Add with an address of a family that is off: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := table.Add(ctx, parse(t, "80")); !errors.Is(err, context.Canceled) {
		t.Errorf("Add with a ctx that is done: %v", err)
	}
}

// TestLoopback asks whether the container's loopback is within reach, only for what leads
// there, and then publishes nothing if it is not.
func TestLoopback(t *testing.T) {
	s := &fakeStack{t: t, open: map[int]portfwd.Listener{}}
	var asked []portfwd.Proto
	table := portfwd.New(portfwd.Config{Stack: s, Plan: plan(t), Loopback: func(p portfwd.Proto) error {
		if asked = append(asked, p); p == portfwd.UDP {
			return unix.EADDRINUSE
		}
		return nil
	}})
	t.Cleanup(table.Close)
	add := func(rules ...string) error {
		var parsed []portfwd.Rule
		for _, s := range rules {
			r, err := portfwd.ParseRule(s)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, r)
		}
		_, err := table.Add(t.Context(), parsed)
		return err
	}
	if err := add("127.0.0.1::80", "127.0.0.1::80/udp"); err != nil || asked != nil {
		t.Errorf("no loopback: %v, asked for %v", err, asked)
	}
	if err := add("127.0.0.1::80-83,loopback"); err != nil || !slices.Equal(asked, []portfwd.Proto{portfwd.TCP}) {
		t.Errorf("TCP: %v, asked for %v", err, asked)
	}
	err := add("127.0.0.1::80", "127.0.0.1::53/udp,loopback")
	if !errors.Is(err, portfwd.ErrNoLoopback) || !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "53/udp,loopback") {
		t.Errorf("UDP: %v, want %v that names the rule", err, portfwd.ErrNoLoopback)
	}
	if n := len(table.Ports()); n != 6 {
		t.Errorf("%d ports, want 6", n)
	}
}

func TestRemove(t *testing.T) {
	table, stack := newTable(t, 0)
	ports := add(t, table, "0:1-12")
	for _, tt := range []struct {
		ids  []int
		says string
	}{
		{[]int{1, 99}, "the ID 99: list the ports"},
		{[]int{0}, "the ID 0"},
		{[]int{-1, 13}, "the ID -1, 13"},
		{[]int{20, 21, 22, 23, 24, 25, 26, 27, 28, 29}, "26, 27, and others:"},
	} {
		if err := table.Remove(t.Context(), tt.ids, false); !errors.Is(err, portfwd.ErrNoPort) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("Remove(%v): %v; want ErrNoPort that says %q", tt.ids, err, tt.says)
		}
	}
	if diff := cmp.Diff(ports, table.Ports(), equal); diff != "" {
		t.Fatalf("the table has changed:\n%s", diff)
	}
	if err := table.Remove(t.Context(), []int{3, 1, 3}, true); err != nil {
		t.Fatal(err)
	}
	if err := table.Remove(t.Context(), []int{2}, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]int{{1, 3}, {2}}, stack.withdrawn); diff != "" {
		t.Errorf("withdrawn (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]bool{true, false}, stack.cut); diff != "" {
		t.Errorf("cut (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ports[3:], table.Ports(), equal); diff != "" {
		t.Errorf("Ports (-want +got):\n%s", diff)
	}
	// A port that was removed can be had again, by another ID.
	again := add(t, table, fmt.Sprintf("%d:1", ports[0].Host.Port()))
	if again[0].ID != 13 {
		t.Errorf("ID %d, want 13", again[0].ID)
	}
}

// TestStuckStack gives up with the ctx, and the next in line does too.
func TestStuckStack(t *testing.T) {
	table, stack := newTable(t, 0)
	add(t, table, "1", "2")
	stack.stuck = true
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error { return table.Remove(ctx, []int{1}, false) })
	for len(table.Ports()) == 2 { // listing waits for nobody
		runtime.Gosched()
	}
	waiting, give := context.WithCancel(t.Context())
	give()
	if _, err := table.Add(waiting, parse(t, "3")); !errors.Is(err, context.Canceled) {
		t.Errorf("Add behind a change that is stuck: %v", err)
	}
	cancel()
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Remove: %v, want that it says it has not waited", err)
	}
	stack.stuck = false
	stack.Withdraw(t.Context(), []int{1}, false) // what it had still to do
}

func TestClose(t *testing.T) {
	table, stack := newTable(t, 0)
	add(t, table, "1", "2/udp")
	table.Close()
	table.Close()
	if diff := cmp.Diff([][]int{{1, 2}}, stack.withdrawn); diff != "" {
		t.Errorf("withdrawn (-want +got):\n%s", diff)
	}
	if !slices.Equal(stack.cut, []bool{true}) || len(table.Ports()) != 0 {
		t.Errorf("cut %v, ports %v", stack.cut, table.Ports())
	}
	refused(t, table, portfwd.ErrClosed, nil, "80")
	if err := table.Remove(t.Context(), []int{1}, false); !errors.Is(err, portfwd.ErrClosed) {
		t.Errorf("Remove: %v, want ErrClosed", err)
	}
}

// TestConcurrently has many add, remove and list at the same time, and want one
// port that only one can have.
func TestConcurrently(t *testing.T) {
	table, _ := newTable(t, 0)
	shared := add(t, table, "127.0.0.1::80")[0]
	if err := table.Remove(t.Context(), []int{shared.ID}, false); err != nil {
		t.Fatal(err)
	}
	rule := parse(t, shared.String())
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			for range 25 {
				ports, err := table.Add(t.Context(), parse(t, "127.0.0.1::1", "127.0.0.1::2/udp"))
				if err != nil {
					return err
				}
				one, err := table.Add(t.Context(), rule)
				if err != nil && !errors.Is(err, portfwd.ErrInUse) {
					return err
				}
				listed := table.Ports()
				for _, p := range append(ports, one...) {
					if !slices.Contains(listed, p) {
						return fmt.Errorf("port %+v is not listed", p)
					}
					if err := table.Remove(t.Context(), []int{p.ID}, false); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if ports := table.Ports(); len(ports) != 0 {
		t.Errorf("%d ports are left", len(ports))
	}
}

// manyPorts is how many the next tests publish.
const manyPorts = 2000

// TestManyPorts adds one port to none and to many: it takes no more work, which is
// told by what is allocated and handed on.
func TestManyPorts(t *testing.T) {
	work := func(table *portfwd.Table) float64 {
		rule := parse(t, "127.0.0.1::80")
		return testing.AllocsPerRun(20, func() {
			ports, err := table.Add(t.Context(), rule)
			if err != nil {
				t.Fatal(err)
			}
			if err := table.Remove(t.Context(), []int{ports[0].ID}, false); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, _ := newTable(t, 0)
	want := work(few)
	many, stack := newTable(t, 0)
	add(t, many, fmt.Sprintf("127.0.0.1:0:1-%d", manyPorts))
	if got := work(many); got > want+2 { // maps and the fake's lists grow now and then
		t.Errorf("%v allocations with %d ports, %v with none", got, manyPorts, want)
	}
	if got := stack.published[0]; got != manyPorts {
		t.Errorf("%d listeners published at once, want %d", got, manyPorts)
	}
	for _, n := range stack.published[1:] {
		if n != 1 {
			t.Fatalf("%d listeners published for one port", n)
		}
	}
	if got := len(many.Ports()); got != manyPorts {
		t.Errorf("%d ports, want %d", got, manyPorts)
	}
}

// BenchmarkAddRemove adds a port to many, and removes it.
func BenchmarkAddRemove(b *testing.B) {
	table, _ := newTable(b, 0)
	add(b, table, fmt.Sprintf("127.0.0.1:0:1-%d", manyPorts))
	rule := parse(b, "127.0.0.1::80")
	b.ReportAllocs()
	for b.Loop() {
		ports, err := table.Add(b.Context(), rule)
		if err != nil {
			b.Fatal(err)
		}
		if err := table.Remove(b.Context(), []int{ports[0].ID}, false); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAddMany publishes all of them.
func BenchmarkAddMany(b *testing.B) {
	rules := parse(b, fmt.Sprintf("127.0.0.1:0:1-%d", manyPorts))
	for b.Loop() {
		table, _ := newTable(b, 0)
		if _, err := table.Add(b.Context(), rules); err != nil {
			b.Fatal(err)
		}
		table.Close()
	}
}
