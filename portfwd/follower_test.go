// SPDX-License-Identifier: Apache-2.0

package portfwd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/portfwd"
)

// fakeSource has what the test says listens.
type fakeSource struct {
	mu    sync.Mutex
	list  []portfwd.Listening
	err   error
	looks int
}

func (s *fakeSource) Listening(each func(portfwd.Listening)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	for _, l := range s.list {
		each(l)
	}
	return s.err
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), s)
}

// A following is a Follower that runs, on a clock of its own (synctest).
type following struct {
	t      *testing.T
	table  *portfwd.Table
	stack  *fakeStack
	source *fakeSource
	log    *syncBuffer
	done   chan error
}

// follow runs f with a Follower of the Auto.
func follow(t *testing.T, auto string, f func(*testing.T, *following)) {
	synctest.Test(t, func(t *testing.T) {
		a, err := portfwd.ParseAuto(auto)
		if err != nil {
			t.Fatal(err)
		}
		fl := &following{t: t, source: &fakeSource{}, log: &syncBuffer{}, done: make(chan error, 1)}
		fl.table, fl.stack = newTable(t, 0)
		follower, err := portfwd.NewFollower(portfwd.FollowerConfig{
			Auto: a, Table: fl.table, Source: fl.source, Log: slog.New(slog.NewTextHandler(fl.log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { fl.done <- follower.Run(ctx) }()
		f(t, fl)
		cancel()
		if err := <-fl.done; err != nil && !errors.Is(err, portfwd.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
}

// listen says what listens from now on, "tcp 0.0.0.0:80", "tcp [::]:80 both", and
// lets the follower see it.
func (f *following) listen(sockets ...string) {
	f.t.Helper()
	var list []portfwd.Listening
	for _, s := range sockets {
		words := strings.Fields(s)
		list = append(list, portfwd.Listening{
			Proto: portfwd.Proto(words[0]), Local: netip.MustParseAddrPort(words[1]), Both: len(words) > 2,
		})
	}
	f.source.mu.Lock()
	f.source.list = list
	f.source.mu.Unlock()
	f.pass(portfwd.DefaultEvery)
}

// pass lets time pass on the test's own clock.
func (f *following) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// want compares the rules of what is published, in any order.
func (f *following) want(rules ...string) {
	f.t.Helper()
	var got []string
	for _, p := range f.table.Ports() {
		got = append(got, p.String())
	}
	slices.Sort(got)
	slices.Sort(rules)
	if diff := cmp.Diff(rules, got); diff != "" {
		f.t.Errorf("published (-want +got):\n%s", diff)
	}
}

// freePorts returns ports that nobody has at 127.0.0.1, below the ephemeral ones of
// the tests' own sockets.
func freePorts(t *testing.T, n int) []uint16 {
	t.Helper()
	table := portfwd.New(portfwd.Config{Stack: &fakeStack{t: t, open: map[int]portfwd.Listener{}}})
	defer table.Close()
	var free []uint16
	for p := uint16(20000); len(free) < n; p++ {
		rules := fmt.Sprintf("127.0.0.1:%d:80", p)
		if ports, err := table.Add(t.Context(), parse(t, rules, rules+"/udp")); err == nil {
			free = append(free, ports[0].Host.Port())
		}
		if p == 32000 {
			t.Fatal("no free ports")
		}
	}
	return free
}

func TestFollow(t *testing.T) {
	p := freePorts(t, 3)
	follow(t, "127.0.0.1:auto", func(t *testing.T, f *following) {
		f.listen()
		f.want()
		web, dns := fmt.Sprintf("tcp 0.0.0.0:%d", p[0]), fmt.Sprintf("udp [::]:%d both", p[1])
		f.listen(web)
		webRule := fmt.Sprintf("127.0.0.1:%d:10.0.2.100:%[1]d/tcp", p[0])
		f.want(webRule)
		if got := f.table.Ports()[0]; !got.Auto {
			t.Errorf("%+v is not marked as one that is followed", got)
		}
		dnsRule := fmt.Sprintf("127.0.0.1:%d:%[1]d/udp", p[1])
		f.listen(web, dns)
		f.want(webRule, dnsRule)
		f.listen(dns, dns)
		f.want(dnsRule)
		if published, withdrawn := f.stack.calls(); published != 2 || withdrawn != 1 || f.stack.cut[0] {
			t.Errorf("%d calls of Publish, %d of Withdraw, cut %v; want 2, 1 and false", published, withdrawn, f.stack.cut)
		}
		f.pass(time.Minute) // nothing changes
		f.want(dnsRule)
		if published, withdrawn := f.stack.calls(); published != 2 || withdrawn != 1 {
			t.Errorf("%d calls of Publish, %d of Withdraw, while nothing changed", published, withdrawn)
		}
		f.listen()
		f.want()
	})
}

// TestFollowAddresses has services at all kinds of addresses.
func TestFollowAddresses(t *testing.T) {
	p := freePorts(t, 1)[0]
	for _, tt := range []struct {
		name string
		at   []string
		auto string // what follows "auto"
		rule string // after the host's side; empty: not published
	}{
		{"both families", []string{"[::] both"}, "", "%d/tcp"},
		{"one socket each", []string{"0.0.0.0", "[::]"}, "", "%d/tcp"},
		{"IPv4", []string{"0.0.0.0"}, "", "10.0.2.100:%d/tcp"},
		{"IPv6", []string{"[::]"}, "", "[fd00::100]:%d/tcp"},
		{"the container's address", []string{"10.0.2.100"}, "", "10.0.2.100:%d/tcp"},
		{"both of the container's addresses", []string{"10.0.2.100", "[fd00::100]"}, "", "%d/tcp"},
		{"a leased address", []string{"10.0.2.15", "10.0.2.16"}, "", "10.0.2.15:%d/tcp"},
		{"a leased address beside the container's", []string{"10.0.2.15", "10.0.2.100"}, "", "10.0.2.100:%d/tcp"},
		{"a bridge in the container", []string{"172.17.0.1"}, "", ""},
		{"slipway's own listeners", []string{"192.0.0.8", "[100::8]"}, "", ""},
		{"the gateway", []string{"10.0.2.2"}, "", ""},
		{"loopback", []string{"127.0.0.1"}, "", ""},
		{"loopback if asked for", []string{"127.0.0.1"}, ",loopback", "%d/tcp,loopback"},
		{"IPv6 loopback if asked for", []string{"[::1]"}, ",loopback", "%d/tcp,loopback"},
		{"another loopback address", []string{"127.0.0.53"}, ",loopback", ""},
		{"IPv6 loopback of UDP", []string{"udp [::1]"}, "/udp,loopback", "%d/udp,loopback"},
		{"loopback of UDP", []string{"udp [::1]", "udp 127.0.0.1"}, "/udp,loopback", "%d/udp,loopback"},
		{"loopback and the container's", []string{"127.0.0.1", "10.0.2.100"}, ",loopback", "10.0.2.100:%d/tcp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			follow(t, "127.0.0.1:auto"+tt.auto, func(_ *testing.T, f *following) {
				var sockets []string
				for _, at := range tt.at {
					proto := "tcp"
					if addr, udp := strings.CutPrefix(at, "udp "); udp {
						proto, at = "udp", addr
					}
					addr, both, _ := strings.Cut(at, " ")
					sockets = append(sockets, fmt.Sprintf("%s %s:%d %s", proto, addr, p, both))
				}
				f.listen(sockets...)
				if tt.rule == "" {
					f.want()
					return
				}
				f.want(fmt.Sprintf("127.0.0.1:%d:", p) + fmt.Sprintf(tt.rule, p))
			})
		})
	}
}

// TestFollowChange has a service come to listen at more addresses.
func TestFollowChange(t *testing.T) {
	p := freePorts(t, 1)[0]
	follow(t, "127.0.0.1:auto,loopback", func(_ *testing.T, f *following) {
		f.listen(fmt.Sprintf("tcp 127.0.0.1:%d", p))
		f.want(fmt.Sprintf("127.0.0.1:%d:%[1]d/tcp,loopback", p))
		f.listen(fmt.Sprintf("tcp 127.0.0.1:%d", p), fmt.Sprintf("tcp [::]:%d both", p))
		f.want(fmt.Sprintf("127.0.0.1:%d:%[1]d/tcp", p))
	})
}

func TestFollowPolicy(t *testing.T) {
	p := freePorts(t, 4)
	all := func(proto string) (sockets []string) {
		for _, port := range append(p, 40000) {
			sockets = append(sockets, fmt.Sprintf("%s [::]:%d both", proto, port))
		}
		return sockets
	}
	for _, tt := range []struct {
		auto     string
		tcp, udp []uint16
	}{
		{"auto", append(slices.Clone(p), 40000), p}, // no UDP from which programs send
		{"auto/tcp", append(slices.Clone(p), 40000), nil},
		{"auto/udp", nil, p},
		{fmt.Sprintf("auto,!%d,!%d/tcp", p[0], p[1]), []uint16{p[2], p[3], 40000}, p[1:]},
		{fmt.Sprintf("auto,!%d-60000", p[1]), p[:1], p[:1]},
		{fmt.Sprintf("auto,%d,%d/udp,40000", p[0], p[1]), []uint16{p[0], 40000}, []uint16{p[0], p[1], 40000}},
		{fmt.Sprintf("auto,%d-%d,!%d", p[0], p[3], p[1]), []uint16{p[0], p[2], p[3]}, []uint16{p[0], p[2], p[3]}},
	} {
		t.Run(tt.auto, func(t *testing.T) {
			follow(t, "127.0.0.1:"+tt.auto, func(_ *testing.T, f *following) {
				f.listen(append(all("tcp"), all("udp")...)...)
				var want []string
				for _, port := range tt.tcp {
					want = append(want, fmt.Sprintf("127.0.0.1:%d:%[1]d/tcp", port))
				}
				for _, port := range tt.udp {
					want = append(want, fmt.Sprintf("127.0.0.1:%d:%[1]d/udp", port))
				}
				f.want(want...)
			})
		})
	}
}

// TestFollowYields has users publish what is followed, before and after.
func TestFollowYields(t *testing.T) {
	p := freePorts(t, 3)
	follow(t, "127.0.0.1:auto", func(t *testing.T, f *following) {
		services := []string{fmt.Sprintf("tcp [::]:%d both", p[0]), fmt.Sprintf("tcp [::]:%d both", p[1])}
		first := fmt.Sprintf("127.0.0.1:%d:%d/tcp", p[2], p[0])
		followed0, followed1 := fmt.Sprintf("127.0.0.1:%d:%[1]d/tcp", p[0]), fmt.Sprintf("127.0.0.1:%d:%[1]d/tcp", p[1])
		one := add(t, f.table, first)[0]
		f.listen(services...)
		f.want(first, followed1) // the first leads there already
		if err := f.table.Remove(t.Context(), []int{one.ID}, false); err != nil {
			t.Fatal(err)
		}
		f.pass(portfwd.DefaultEvery)
		f.want(followed0, followed1)

		// A user takes the host's port for another service: the follower's gives way.
		other := add(t, f.table, fmt.Sprintf("127.0.0.1:%d:5000", p[1]))[0]
		f.want(followed0, other.String())
		f.pass(time.Minute)
		f.want(followed0, other.String())
		// Another has the container's port led elsewhere: what is followed ends.
		elsewhere := add(t, f.table, first)[0]
		f.pass(portfwd.DefaultEvery)
		f.want(first, other.String())
		if err := f.table.Remove(t.Context(), []int{other.ID, elsewhere.ID}, false); err != nil {
			t.Fatal(err)
		}
		f.pass(portfwd.DefaultEvery)
		f.want(followed0, followed1)
		if n := f.log.count("level=WARN"); n != 0 {
			t.Errorf("%d warnings of what is no failure", n)
		}
	})
}

// TestFollowDismissed has a user remove a port that is followed.
func TestFollowDismissed(t *testing.T) {
	p := freePorts(t, 1)[0]
	follow(t, "127.0.0.1:auto", func(t *testing.T, f *following) {
		service, rule := fmt.Sprintf("tcp [::]:%d both", p), fmt.Sprintf("127.0.0.1:%d:%[1]d/tcp", p)
		f.listen(service)
		f.want(rule)
		if err := f.table.Remove(t.Context(), []int{f.table.Ports()[0].ID}, false); err != nil {
			t.Fatal(err)
		}
		f.pass(time.Minute)
		f.want()
		f.listen()
		f.listen(service) // a new one
		f.want(rule)
	})
}

// TestFollowInUse has a process of the host hold a port: it is told once, and tried
// again.
func TestFollowInUse(t *testing.T) {
	p := freePorts(t, 2)
	follow(t, "127.0.0.1:auto", func(t *testing.T, f *following) {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", p[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken, free := fmt.Sprintf("127.0.0.1:%d:%[1]d/tcp", p[0]), fmt.Sprintf("127.0.0.1:%d:%[1]d/tcp", p[1])
		f.listen(fmt.Sprintf("tcp [::]:%d both", p[0]), fmt.Sprintf("tcp [::]:%d both", p[1]))
		f.want(free)
		f.pass(time.Hour)
		f.want(free)
		if n := f.log.count("is in use"); n != 1 {
			t.Errorf("the port in use is told %d times", n)
		}
		if n := f.log.count("which is this one"); n != 1 {
			t.Errorf("who has the port is told %d times", n)
		}
		l.Close()
		f.pass(portfwd.DefaultEvery)
		f.want(free) // after so many failures it is tried every five minutes
		f.pass(5 * time.Minute)
		f.want(free, taken)
	})
}

// TestFollowBlind keeps what is published while the source fails.
func TestFollowBlind(t *testing.T) {
	p := freePorts(t, 1)[0]
	follow(t, "127.0.0.1:auto", func(t *testing.T, f *following) {
		rule := fmt.Sprintf("127.0.0.1:%d:%[1]d/tcp", p)
		f.listen(fmt.Sprintf("tcp [::]:%d both", p))
		for range 2 {
			f.source.mu.Lock()
			f.source.err = errors.New("no view")
			f.source.mu.Unlock()
			f.listen()
			f.pass(time.Minute)
			f.want(rule)
			f.source.mu.Lock()
			f.source.err = nil
			f.source.mu.Unlock()
			f.listen(fmt.Sprintf("tcp [::]:%d both", p))
			f.want(rule)
		}
		if n := f.log.count("no view"); n != 2 {
			t.Errorf("two failures are told %d times", n)
		}
	})
}

// TestFollowFlood has the container listen at many ports, which must not take all of
// the host's nor fill the log.
func TestFollowFlood(t *testing.T) {
	var flood []string
	for p := 2000; p < 2000+1500; p++ {
		flood = append(flood, fmt.Sprintf("tcp [::]:%d both", p))
	}
	follow(t, "127.7.7.7:auto", func(t *testing.T, f *following) {
		f.listen(flood...)
		f.pass(time.Minute)
		if n := len(f.table.Ports()); n != 1024 {
			t.Errorf("%d ports are published, want 1024", n)
		}
		if n := f.log.count("more services listen"); n != 1 {
			t.Errorf("the bound is told %d times", n)
		}
		f.listen(flood[1000:]...)
		if n := len(f.table.Ports()); n != 500 {
			t.Errorf("%d ports are published, want 500", n)
		}
	})
	follow(t, "192.0.2.1:auto", func(t *testing.T, f *following) {
		for range 10 {
			f.listen(flood...)
			f.listen()
		}
		if n := f.log.count("level=WARN"); n == 0 || n > 20 {
			t.Errorf("%d warnings, want some, and 20 at most", n)
		}
	})
}

func TestFollowEnd(t *testing.T) {
	p := freePorts(t, 1)[0]
	follow(t, "127.0.0.1:auto", func(t *testing.T, f *following) {
		f.listen(fmt.Sprintf("tcp [::]:%d both", p))
		f.table.Close()
		f.listen()
		select {
		case err := <-f.done:
			if !errors.Is(err, portfwd.ErrClosed) {
				t.Errorf("Run: %v, want ErrClosed", err)
			}
			f.done <- nil
		default:
			t.Error("Run goes on with a Table that is closed")
		}
	})
}

func TestNewFollowerRefuses(t *testing.T) {
	table, _ := newTable(t, 0)
	for _, cfg := range []portfwd.FollowerConfig{
		{Every: time.Millisecond},
		{Every: -time.Second},
		{Auto: portfwd.Auto{Proto: "sctp"}},
	} {
		cfg.Table, cfg.Source = table, &fakeSource{}
		if f, err := portfwd.NewFollower(cfg); err == nil {
			t.Errorf("NewFollower(%+v) = %v, want an error", cfg, f)
		}
	}
}
