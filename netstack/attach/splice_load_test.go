// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// kinds counts this process's descriptors.
type kinds struct{ Sockets, Pipes, Others int }

func descriptors(t testing.TB) kinds {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	var k kinds
	for _, link := range links {
		to, err := os.Readlink(link)
		switch {
		case err != nil: // the directory's own
		case strings.HasPrefix(to, "socket:"):
			k.Sockets++
		case strings.HasPrefix(to, "pipe:"):
			k.Pipes++
		default:
			k.Others++
		}
	}
	return k
}

// elements returns how many tuples are in the kernel's sets of the container.
func (r *rig) elements(t testing.TB) int {
	t.Helper()
	sum := 0
	for _, family := range []string{"ip", "ip6"} {
		var out struct {
			Nftables []struct {
				Set *struct {
					Elem []json.RawMessage `json:"elem"`
				} `json:"set"`
			} `json:"nftables"`
		}
		text := r.c.Exec(t, "nft", "-j", "list", "set", family, "slipway-tap0", "stacked")
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		for _, o := range out.Nftables {
			if o.Set != nil {
				sum += len(o.Set.Elem)
			}
		}
	}
	return sum
}

// calm waits until the session holds no flows, and what it held before.
func (r *rig) calm(t testing.TB, before kinds, goroutines int) {
	t.Helper()
	r.noFlows(t)
	attachtest.Eventually(t, "no tuple is left in the container", func() bool { return r.elements(t) == 0 })
	now, g := kinds{}, 0
	defer func() {
		if t.Failed() {
			t.Logf("before: %+v and %d goroutines, now: %+v and %d", before, goroutines, now, g)
		}
	}()
	attachtest.Eventually(t, "descriptors and goroutines are at rest", func() bool {
		now, g = descriptors(t), runtime.NumGoroutine()
		return now.Sockets <= before.Sockets && now.Pipes <= before.Pipes && g <= goroutines
	})
}

// TestSpliceShortConnections opens and closes more connections than there are ephemeral
// ports (28232, net.ipv4.ip_local_port_range). Nothing is left.
func TestSpliceShortConnections(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	const perFamily, width = 30_000, 32
	r := spliced(t)
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	families(t, func(t *testing.T, f attachtest.Family) {
		addr := r.serveTraffic(t, f)
		c := r.traffic(t, r.c, "short", addr, strconv.Itoa(perFamily), strconv.Itoa(width))
		c.WaitLine(t, fmt.Sprint("closed ", perFamily))
	})
	r.calm(t, before, goroutines)
	if n := r.logged(saysStacked); n > 0 {
		t.Error("the path was given up")
	}
	if all, got := r.counter(t, "flows_tcp"), r.counter(t, "flows_spliced"); all != got || got < 2*perFamily {
		t.Errorf("%d of %d flows were spliced, want all of %d", got, all, 2*perFamily)
	}
}

// many is how many connections of each family fit under the limit of open files,
// two descriptors each, 5000 at most.
func many(t testing.TB) int {
	t.Helper()
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	const others = 800 // ours, and those that the session keeps for what is not spliced
	return min(5000, (int(lim.Cur)-others)/4)
}

// TestSpliceIdle holds many connections that nothing is sent on.
func TestSpliceIdle(t *testing.T) {
	r := spliced(t)
	n := many(t)
	var addrs []string
	for _, f := range attachtest.Families() {
		addrs = append(addrs, r.serveTraffic(t, f))
	}
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	debug.FreeOSMemory() // what earlier tests left
	size := rss(t)
	var clients []*attachtest.Process
	for _, addr := range addrs {
		clients = append(clients, r.traffic(t, r.c, "hold", addr, strconv.Itoa(n)))
	}
	for _, c := range clients {
		c.WaitLine(t, fmt.Sprint("holds ", n))
	}
	attachtest.Eventually(t, "all flows are open", func() bool { return len(r.flows(t)) == 2*n })
	for _, f := range r.flows(t) {
		if f.Path != netstack.PathSpliced || f.State != "open" || f.BytesUp != 1 || f.BytesDown != 1 {
			t.Fatalf("not as wanted: %+v", f)
		}
	}
	now := descriptors(t)
	// A client that we started is a socket and a pipe.
	if got := now.Sockets - before.Sockets - len(clients); got != 4*n {
		t.Errorf("%d more sockets for %d flows, want two for each", got, 2*n)
	}
	if got := now.Pipes - before.Pipes - len(clients); got != 0 {
		t.Errorf("%d more pipes for idle flows", got)
	}
	if got := runtime.NumGoroutine() - goroutines; got > 0 {
		t.Errorf("%d more goroutines for idle flows", got)
	}
	grown := rss(t) - size
	debug.FreeOSMemory()
	t.Logf("%d idle connections take %d KiB, %d of which are in use", 2*n, grown, rss(t)-size)
	for _, c := range clients {
		c.Kill()
	}
	r.calm(t, before, goroutines)
}

// TestSpliceManyConnects has more connects under way than are allowed at once, to
// a peer that does not answer at first.
func TestSpliceManyConnects(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	r := spliced(t)
	n := many(t)
	var addrs []string
	var answer []func()
	for _, f := range attachtest.Families() {
		addr := r.serveTraffic(t, f)
		addrs, answer = append(addrs, addr), append(answer, r.mute(t, netip.MustParseAddrPort(addr)))
	}
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	var clients []*attachtest.Process
	for _, addr := range addrs {
		clients = append(clients, r.traffic(t, r.c, "hold", addr, strconv.Itoa(n)))
	}
	attachtest.Eventually(t, "many connects are under way", func() bool { return len(r.flows(t)) >= min(2*n, 8000) })
	for _, a := range answer {
		a()
	}
	for _, c := range clients {
		c.WaitLine(t, fmt.Sprint("holds ", n))
	}
	for _, c := range clients {
		c.Kill()
	}
	r.calm(t, before, goroutines)
	if r.logged(saysStacked) > 0 {
		t.Error("the path was given up")
	}
}

// mute lets the peer drop what comes for its address, until the returned function
// is called.
func (r *rig) mute(t testing.TB, a netip.AddrPort) (answer func()) {
	t.Helper()
	ip := map[bool]string{false: "ip", true: "ip6"}[a.Addr().Is6()]
	table := fmt.Sprintf("mute%d", a.Port())
	r.Peer.Exec(t, "nft", fmt.Sprintf(
		"add table %[1]s %[2]s; add chain %[1]s %[2]s in { type filter hook input priority 0; }; add rule %[1]s %[2]s in tcp dport %[3]d drop",
		ip, table, a.Port()))
	done := false
	answer = func() {
		if !done {
			done = true
			r.Peer.Exec(t, "nft", "delete", "table", ip, table)
		}
	}
	t.Cleanup(answer)
	return answer
}

// TestSpliceStuckReaders has more flows whose reader has stopped than there are
// pipes. Others go on, and theirs when they are read again.
func TestSpliceStuckReaders(t *testing.T) {
	const stuck, size, few = 60, 8 << 20, 64 << 10
	r := spliced(t)
	f := attachtest.Families()[0]
	before := rss(t)
	l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// Connections inherit it.
	_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, few) })
	if err != nil {
		t.Fatal(err)
	}
	var pairs []tcpPair
	results := make(chan error, stuck)
	read := make(chan struct{})
	for range stuck {
		p := r.connectTo(t, l, tcpAddr(l.Addr()))
		pairs = append(pairs, p)
		go func() { results <- transfer(p.container, paused{p.peer, read}, size) }()
	}
	for _, p := range pairs {
		from := tcpAddr(p.container.LocalAddr())
		last, same := uint64(0), 0
		attachtest.Eventually(t, "the flow is stuck", func() bool {
			now := r.flowFrom(t, from).BytesUp
			if now == last && now > 0 {
				same++
			} else {
				last, same = now, 0
			}
			return same > 3
		})
		if last >= size {
			t.Fatalf("all of %d bytes went to a peer that does not read", last)
		}
	}
	for range 4 {
		r.speaksBy(t, f, netstack.PathSpliced)
	}
	if k := descriptors(t); k.Pipes > 2*64 {
		t.Errorf("%d ends of pipes", k.Pipes)
	}
	if grown := rss(t) - before; grown > 64<<10 {
		t.Errorf("%d KiB more for %d flows that are stuck", grown, stuck)
	}
	close(read)
	for range pairs {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// A paused reader is not read before start is closed.
type paused struct {
	io.Reader
	start <-chan struct{}
}

func (p paused) Read(b []byte) (int, error) {
	<-p.start
	return p.Reader.Read(b)
}
