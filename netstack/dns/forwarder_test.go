// SPDX-License-Identifier: Apache-2.0

package dns_test

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/dns"
	"golang.org/x/net/dns/dnsmessage"
)

// short is the time a server has where it is meant to run out, and long where it
// must not.
const (
	short = 20 * time.Millisecond
	long  = 30 * time.Second
	// unhurried is for a test in which it must run out for one server only, however
	// busy the machine.
	unhurried = 400 * time.Millisecond
)

func mustNew(t testing.TB, c dns.Config) *dns.Forwarder {
	t.Helper()
	f, err := dns.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// gist is what the tests look at in an answer.
type gist struct {
	ID    uint16
	Code  dnsmessage.RCode
	Octet byte // of the address in the answer
}

func gistOf(t testing.TB, b []byte) gist {
	t.Helper()
	m := unpack(t, b)
	g := gist{ID: m.ID, Code: m.RCode}
	if len(m.Answers) > 0 {
		g.Octet = m.Answers[0].Body.(*dnsmessage.AResource).A[3]
	}
	return g
}

func TestExchange(t *testing.T) {
	type answer = func([]byte, bool) [][]byte
	refused := answer(nil) // stands for a closed port
	spoof := func(edit func(*dnsmessage.Message)) answer {
		return func(q []byte, _ bool) [][]byte {
			return [][]byte{reply(t, q, 66, edit), []byte("short"), reply(t, q, 7, nil)}
		}
	}
	// slow answers when the next server has been asked.
	next := make(chan bool, 1)
	slow := func(q []byte, _ bool) [][]byte {
		<-next
		return [][]byte{reply(t, q, 3, nil)}
	}
	afterSlow := func(q []byte, _ bool) [][]byte {
		next <- true
		return [][]byte{reply(t, q, 2, nil)}
	}
	tests := []struct {
		name    string
		hosts   string // "::1" for IPv6, default "127.0.0.1"
		servers []answer
		timeout time.Duration
		want    gist
		tcp     string // "no": the case is about datagrams
	}{
		{name: "first answers", servers: []answer{good(t, 1), good(t, 2)}, want: gist{Octet: 1}},
		{name: "v6 server", hosts: "::1", servers: []answer{good(t, 1)}, want: gist{Octet: 1}},
		{name: "dead first", servers: []answer{silent, good(t, 2)}, timeout: short, want: gist{Octet: 2}},
		{name: "refused first", servers: []answer{refused, good(t, 2)}, want: gist{Octet: 2}},
		{name: "slow first", servers: []answer{slow, afterSlow}, timeout: short, want: gist{Octet: 2}},
		{name: "servfail first", servers: []answer{bad(t, dnsmessage.RCodeServerFailure), good(t, 2)}, want: gist{Octet: 2}},
		{name: "refusing first", servers: []answer{bad(t, dnsmessage.RCodeRefused), good(t, 2)}, want: gist{Octet: 2}},
		{name: "notimp first", servers: []answer{bad(t, dnsmessage.RCodeNotImplemented), good(t, 2)}, want: gist{Octet: 2}},
		{name: "nxdomain first", servers: []answer{bad(t, dnsmessage.RCodeNameError), good(t, 2)}, want: gist{Code: dnsmessage.RCodeNameError}},
		{name: "formerr first", servers: []answer{bad(t, dnsmessage.RCodeFormatError), good(t, 2)}, want: gist{Code: dnsmessage.RCodeFormatError}},
		{name: "all poor", servers: []answer{bad(t, dnsmessage.RCodeServerFailure), bad(t, dnsmessage.RCodeRefused)}, want: gist{Code: dnsmessage.RCodeRefused}},
		{name: "poor and dead", servers: []answer{bad(t, dnsmessage.RCodeRefused), silent}, timeout: short, want: gist{Code: dnsmessage.RCodeRefused}},
		{name: "all dead", servers: []answer{silent, refused}, timeout: short, want: gist{Code: dnsmessage.RCodeServerFailure}},
		{name: "spoofed id", servers: []answer{spoof(func(m *dnsmessage.Message) { m.ID++ })}, want: gist{Octet: 7}, tcp: "no"},
		{name: "not a response", servers: []answer{spoof(func(m *dnsmessage.Message) { m.Response = false })}, want: gist{Octet: 7}, tcp: "no"},
		{name: "other opcode", servers: []answer{spoof(func(m *dnsmessage.Message) { m.OpCode = 4 })}, want: gist{Octet: 7}, tcp: "no"},
		{name: "other name", servers: []answer{spoof(func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("b.example.") })}, want: gist{Octet: 7}, tcp: "no"},
		{name: "other type", servers: []answer{spoof(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA })}, want: gist{Octet: 7}, tcp: "no"},
		{name: "no question", servers: []answer{spoof(func(m *dnsmessage.Message) { m.Questions = nil })}, want: gist{Octet: 7}, tcp: "no"},
		{name: "case folded", servers: []answer{func(q []byte, _ bool) [][]byte {
			return [][]byte{reply(t, bytes.ToLower(q), 7, nil)}
		}}, want: gist{Octet: 7}},
		{name: "error without question", servers: []answer{func(q []byte, _ bool) [][]byte {
			return [][]byte{reply(t, q, 0, func(m *dnsmessage.Message) {
				m.RCode, m.Questions, m.Answers = dnsmessage.RCodeFormatError, nil, nil
			})}
		}}, want: gist{Code: dnsmessage.RCodeFormatError}},
		{name: "mismatch on tcp", servers: []answer{func(q []byte, _ bool) [][]byte {
			return [][]byte{reply(t, q, 66, func(m *dnsmessage.Message) { m.ID++ })}
		}, good(t, 2)}, timeout: short, want: gist{Octet: 2}},
	}
	for _, tt := range tests {
		for _, way := range ways {
			if way.name == "tcp" && tt.tcp == "no" {
				continue
			}
			t.Run(tt.name+" "+way.name, func(t *testing.T) {
				c := dns.Config{Timeout: tt.timeout}
				if c.Timeout == 0 {
					c.Timeout = long
				}
				host := tt.hosts
				if host == "" {
					host = "127.0.0.1"
				}
				for _, a := range tt.servers {
					if a == nil {
						c.Upstream = append(c.Upstream, closedPort(t))
						continue
					}
					c.Upstream = append(c.Upstream, newServer(t, host, a).addr)
				}
				// In bytes.ToLower the id must not look like letters.
				q := query(t, 0x1234, "A.Example.")
				got := gistOf(t, way.exchange(t, t.Context(), mustNew(t, c), q))
				tt.want.ID = 0x1234
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("answer (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestPassedWhole holds that bytes go through untouched both ways.
func TestPassedWhole(t *testing.T) {
	opt := dnsmessage.Resource{Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: []byte("cookie!!")}}}}
	if err := opt.Header.SetEDNS0(8192, dnsmessage.RCodeSuccess, true); err != nil {
		t.Fatal(err)
	}
	m := unpack(t, query(t, 7, "a.example."))
	m.Questions[0].Type = 65 // HTTPS, which the message library does not know
	m.CheckingDisabled = true
	m.Additionals = []dnsmessage.Resource{opt}
	q := pack(t, m)
	tests := []struct {
		name string
		edit func(*dnsmessage.Message)
	}{
		{"edns", nil},
		{"truncated", func(m *dnsmessage.Message) { m.Truncated, m.Answers = true, nil }},
		{"authentic data", func(m *dnsmessage.Message) { m.AuthenticData = true }},
		{"larger than 512", func(m *dnsmessage.Message) {
			for range 100 {
				m.Answers = append(m.Answers, m.Answers[0])
			}
		}},
		{"as large as offered", func(m *dnsmessage.Message) {
			for range 450 {
				m.Answers = append(m.Answers, m.Answers[0])
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := reply(t, q, 1, tt.edit)
			var seen atomic.Pointer[[]byte]
			s := newServer(t, "127.0.0.1", func(q []byte, _ bool) [][]byte {
				c := bytes.Clone(q)
				seen.Store(&c)
				return [][]byte{want}
			})
			f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{s.addr}, Timeout: long})
			for _, way := range ways {
				if got := way.exchange(t, t.Context(), f, q); !bytes.Equal(got, want) {
					t.Errorf("%s: answer changed: %d bytes, want %d", way.name, len(got), len(want))
				}
				if !bytes.Equal(*seen.Swap(nil), q) {
					t.Errorf("%s: the server saw another query", way.name)
				}
			}
		})
	}
}

func TestDeadServerIsAskedLast(t *testing.T) {
	for _, way := range ways {
		if way.name != "tcp" { // of which Servers does not tell
			t.Run(way.name, func(t *testing.T) { deadServerIsAskedLast(t, way) })
		}
	}
}

func deadServerIsAskedLast(t *testing.T, w way) {
	dead, live := newServer(t, "127.0.0.1", silent), newServer(t, "127.0.0.1", good(t, 2))
	f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{dead.addr, live.addr}, Timeout: unhurried})
	var clock atomic.Int64
	f.SetClock(func() time.Time { return time.Unix(1_000_000, clock.Load()) })
	for range 5 {
		w.exchange(t, t.Context(), f, query(t, 1, "a.example."))
	}
	if got := dead.queries.Load(); got != 1 {
		t.Errorf("the dead server was asked %d times for five queries, want once", got)
	}
	if diff := cmp.Diff([]string{live.addr.String(), dead.addr.String()}, texts(f.Servers())); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	clock.Add(int64(dns.Penalty))
	if diff := cmp.Diff([]string{dead.addr.String(), live.addr.String()}, texts(f.Servers())); diff != "" {
		t.Errorf("order after the penalty (-want +got):\n%s", diff)
	}
}

func TestGarbage(t *testing.T) {
	s := newServer(t, "127.0.0.1", good(t, 1))
	f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{s.addr}})
	q := query(t, 5, "a.example.")
	response := bytes.Clone(q)
	response[2] |= 0x80
	two := bytes.Clone(q)
	two[5] = 2
	update := bytes.Clone(q)
	update[2] |= 5 << 3 // RFC 2136 §1.3
	tests := []struct {
		name  string
		query []byte
		want  dnsmessage.RCode // 0: no answer
	}{
		{"empty", nil, 0},
		{"under a header", q[:11], 0},
		{"response", response, 0},
		{"question cut off", q[:len(q)-1], dnsmessage.RCodeFormatError},
		{"two questions", two, dnsmessage.RCodeFormatError},
		{"update", update, dnsmessage.RCodeNotImplemented},
		{"compressed name", append(bytes.Clone(q[:12]), 0xc0, 12, 0, 1, 0, 1), dnsmessage.RCodeFormatError},
		{"endless name", append(bytes.Clone(q[:12]), bytes.Repeat([]byte{1, 'a'}, 200)...), dnsmessage.RCodeFormatError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, way := range ways {
				got := way.exchange(t, t.Context(), f, tt.query)
				if tt.want == 0 {
					if got != nil {
						t.Errorf("%s: answered with % x", way.name, got)
					}
					continue
				}
				if g := gistOf(t, got); g.Code != tt.want || g.ID != 5 {
					t.Errorf("%s: answer %+v, want code %v and id 5", way.name, g, tt.want)
				}
			}
		})
	}
	if got := s.queries.Load(); got != 0 {
		t.Errorf("%d pieces of garbage reached the server", got)
	}
}

func TestServfailIsToTheQuery(t *testing.T) {
	f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{closedPort(t)}, Timeout: long})
	got := unpack(t, f.Exchange(t.Context(), query(t, 9, "a.example."), false))
	want := unpack(t, query(t, 9, "a.example."))
	want.Response, want.RecursionAvailable, want.RCode = true, true, dnsmessage.RCodeServerFailure
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestMaxInFlight(t *testing.T) {
	arrived, leave := make(chan bool), make(chan bool)
	s := newServer(t, "127.0.0.1", func(q []byte, _ bool) [][]byte {
		arrived <- true
		<-leave
		return [][]byte{reply(t, q, 1, nil)}
	})
	f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{s.addr}, Timeout: long, MaxInFlight: 1})
	first := make(chan []byte)
	go func() { first <- f.Exchange(t.Context(), query(t, 1, "a.example."), false) }()
	<-arrived
	for _, way := range ways {
		if got := way.exchange(t, t.Context(), f, query(t, 2, "a.example.")); got != nil {
			t.Errorf("%s: a query over the limit was answered: % x", way.name, got)
		}
	}
	close(leave)
	if g := gistOf(t, <-first); g.Octet != 1 {
		t.Errorf("answer to the first query: %+v", g)
	}
	if got := f.Stats(); got.Dropped != 3 || got.Answered != 1 || got.Queries != 4 {
		t.Errorf("counters: %+v", got)
	}
}

func TestCancel(t *testing.T) {
	arrived := make(chan bool, 1)
	s := newServer(t, "127.0.0.1", func([]byte, bool) [][]byte { arrived <- true; return nil })
	f := mustNew(t, dns.Config{Upstream: []netip.AddrPort{s.addr}, Timeout: long})
	for _, tcp := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan []byte)
		go func() { got <- f.Exchange(ctx, query(t, 1, "a.example."), tcp) }()
		<-arrived
		cancel()
		if b := <-got; b != nil {
			t.Errorf("answered after the end: % x", b)
		}
	}
	if got := f.Stats().Failovers; got != 0 {
		t.Errorf("%d failures held against the server, want none", got)
	}
}

func TestNothingIsLeftOpen(t *testing.T) {
	dead, live := newServer(t, "127.0.0.1", silent), newServer(t, "127.0.0.1", good(t, 2))
	for _, up := range [][]netip.AddrPort{{closedPort(t), live.addr}, {dead.addr}} {
		f := mustNew(t, dns.Config{Upstream: up, Timeout: short})
		before := countFDs(t)
		for range 10 {
			for _, way := range ways {
				if way.name != "tcp" { // whose servers close in their own time
					way.exchange(t, t.Context(), f, query(t, 1, "a.example."))
				}
			}
			if a, _ := f.Begin(query(t, 1, "a.example.")); a != nil {
				a.Close()
				a.Close()
			}
		}
		// Fewer are no harm: servers of other tests may still be closing.
		if after := countFDs(t); after > before {
			t.Errorf("%d descriptors open after the queries, %d before", after, before)
		}
	}
}

func TestDialer(t *testing.T) {
	f := mustNew(t, dns.Config{
		Upstream:   []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")},
		Control:    func(string, string, syscall.RawConn) error { return nil },
		LocalAddr4: netip.MustParseAddr("192.0.2.9"),
		LocalAddr6: netip.MustParseAddr("2001:db8::9"),
	})
	tests := []struct {
		name, server string
		tcp          bool
		local        string // empty: neither address nor Control
	}{
		{"v4 udp", "192.0.2.1", false, "192.0.2.9:0"},
		{"v4 tcp", "192.0.2.1", true, "192.0.2.9:0"},
		{"v6 udp", "2001:db8::1", false, "[2001:db8::9]:0"},
		{"v6 tcp", "2001:db8::1", true, "[2001:db8::9]:0"},
		{"loopback v4", "127.0.0.53", false, ""},
		{"loopback v6", "::1", true, ""},
		{"unspecified", "0.0.0.0", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := f.Dialer(netip.MustParseAddr(tt.server), tt.tcp)
			local := ""
			if d.LocalAddr != nil {
				local = d.LocalAddr.String()
			}
			if local != tt.local || (d.Control != nil) != (tt.local != "") {
				t.Errorf("local address %q and control %v, want %q and %v", local, d.Control != nil, tt.local, tt.local != "")
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name   string
		config dns.Config
	}{
		{"no port", dns.Config{Upstream: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}}},
		{"zero server", dns.Config{Upstream: []netip.AddrPort{{}}}},
		{"timeout", dns.Config{Timeout: -1}},
		{"in flight", dns.Config{MaxInFlight: -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := dns.New(tt.config); err == nil || !strings.HasPrefix(err.Error(), "set up dns: ") {
				t.Errorf("error %v", err)
			}
		})
	}
}
