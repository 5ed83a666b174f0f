// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var under, most atomic.Int64
		seen := make(chan int, 1000)
		l := loop{AtOnce: 4, Warmup: time.Second, Window: 10 * time.Second}
		r := l.run(func(n int) error {
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			seen <- n
			time.Sleep(100*time.Millisecond + time.Millisecond)
			if n%4 == 3 {
				return errors.New("no")
			}
			return nil
		})
		close(seen)
		// 10 s of 101 ms, in each of three workers; the fourth only fails.
		want := loopResult{Done: 297, Failed: 99, Elapsed: 10 * time.Second, P50: 101e6, P99: 101e6, FirstError: "no"}
		near := cmpopts.EquateApprox(0, 3)
		if diff := cmp.Diff(want, r, near, cmp.Comparer(func(a, b int64) bool { return a-b <= 3 && b-a <= 3 })); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
		if most.Load() != 4 {
			t.Errorf("%d at once, want 4", most.Load())
		}
		times := map[int]int{}
		for n := range seen {
			if times[n]++; times[n] > 1 {
				t.Fatalf("exchange %d twice", n)
			}
		}
	})
}

func TestRepeatCountsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		a := roundTripArgs{Warmup: time.Second, Window: 9 * time.Second}
		l, err := a.repeat(func() error {
			time.Sleep(100 * time.Millisecond)
			if n++; n%10 == 0 {
				return os.ErrDeadlineExceeded
			}
			return nil
		})
		if err != nil || l.Lost != 10 || l.Count < 79 || l.Count > 81 || l.P50 != 100e6 || l.Max != 100e6 {
			t.Errorf("%+v, %v, want 80 round trips and 10 lost", l, err)
		}
		if _, err := a.repeat(func() error { return io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v, want that of the trip", err)
		}
	})
}

func TestLatencyValues(t *testing.T) {
	var took []int64
	for i := range int64(2000) {
		took = append(took, (2000-i)*1e3)
	}
	v, err := newLatencies(took).values("x_")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"x_p50": 1000, "x_p99": 1980, "x_p999": 1998}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	v, err = newLatencies(took[:minTail-1]).values("")
	partial, ok := errors.AsType[partialError](err)
	if !ok || partial.metric != "p999" || len(v) != 2 {
		t.Errorf("values %v, error %v, want no p999 of %d round trips", v, err, minTail-1)
	}
}

// TestLoadsMeet lets the container's side of each load and the peer's meet over
// loopback.
func TestLoadsMeet(t *testing.T) {
	self := netip.MustParseAddr("127.0.0.1")
	listening(t, answerUDP(udpPortEcho, echoDatagram))
	_, err := startService()
	listening(t, err)
	e := new(endpoint)
	if _, err := e.tcp.start(tcpStartArgs{Addr: self, Streams: 1}); err != nil {
		t.Fatal(err)
	}
	// How much goes into a window is up to who else runs here.
	const longest = 10 * time.Second
	for window := 50 * time.Millisecond; ; window *= 2 {
		r, err := e.probe(roundTripArgs{Addr: self, Size: 1, Pause: time.Millisecond, Window: window})
		if err == nil && r.TCP.Count > 0 && r.UDP.Count > 0 && r.Bulk.Bytes > 0 {
			break
		}
		if err != nil || window > longest {
			t.Fatalf("probe of %v: %+v, %v, want round trips and bulk data", window, r, err)
		}
	}
	latency, err := connectLatency(latencyArgs{Addr: self, Count: 10, AtOnce: 3})
	if err != nil || latency.Answer.Count != 10 || latency.Answer.P50 < latency.Connect.P50 {
		t.Errorf("latencies %+v, %v, want those of 10 connections", latency, err)
	}
}

func echoDatagram(b []byte) ([]byte, error) { return b, nil }

// listening checks that a server started. One that another test has left running,
// since it ends with the process, will do as well.
func listening(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, unix.EADDRINUSE) {
		t.Fatal(err)
	}
}

func TestUDPLoadSteps(t *testing.T) {
	tests := []struct {
		name                  string
		size                  int
		clean                 float64 // what the path carries without loss
		rates                 []float64
		wantClean, wantLatest float64
	}{
		{"some", 1400, 120e3, []float64{25e3, 50e3, 100e3, 200e3, 400e3, 800e3, 141421, 118921}, 118921, 60e3},
		{"all", 64, 1e6, []float64{25e3, 50e3, 100e3, 200e3, 400e3, 800e3}, 800e3, 800e3},
		{"hardly any", 1400, 14e3, []float64{25e3, 50e3, 100e3, 200e3, 400e3, 800e3, 12.5e3, 17678}, 12.5e3, 7e3},
		{"large", 8192, 35e3, []float64{5e3, 10e3, 20e3, 40e3, 80e3, 160e3, 28284, 33636}, 33636, 17.5e3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := udpCase{size: tt.size}
			var (
				steps []udpStep
				rates []float64
			)
			for len(steps) < udpSteps+udpRefine {
				rate := c.nextRate(steps)
				if rate == 0 {
					break
				}
				s := udpStep{Offered: rate, Delivered: rate}
				if rate > tt.clean { // overload halves it
					s.Delivered = tt.clean / 2
					s.Loss = 100 * (1 - s.Delivered/rate)
				}
				rates, steps = append(rates, rate), append(steps, s)
			}
			near := cmpopts.EquateApprox(0, 1)
			if diff := cmp.Diff(tt.rates, rates, near); diff != "" {
				t.Errorf("rates (-want +got):\n%s", diff)
			}
			_, clean, highest := c.judge(steps)
			if diff := cmp.Diff([]float64{tt.wantClean, tt.wantLatest}, []float64{clean, highest.Delivered}, near); diff != "" {
				t.Errorf("clean rate and that at the highest load (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResolver(t *testing.T) {
	of := func(tool string) (netip.Addr, error) {
		return (&bout{step: step{Subject: Subject{Tool: tool}}}).resolver(t.Context())
	}
	for name, tool := range tools() {
		if tool.argv == nil || tool.ready == readyByAnswer {
			continue // it is no helper, or its container tells
		}
		if a, err := of(name); err != nil || !a.IsValid() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := of("other"); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("error %v, want one about the tool", err)
	}
}

func TestFirstResolver(t *testing.T) {
	tests := []struct {
		name, text, want string // no address: an error
	}{
		{"the first of two", "# made\nsearch test\nnameserver\nnameserver\t10.0.2.1\nnameserver 10.0.2.3\n", "10.0.2.1"},
		{"IPv6", "nameserver fd00::3", "fd00::3"},
		{"none", "search test\n", ""},
		{"no address", "nameserver example.test\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resolv.conf")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			a, err := firstResolver(path)
			if (err != nil) != (tt.want == "") || err == nil && a.String() != tt.want {
				t.Errorf("%v, error %v, want %q", a, err, tt.want)
			}
		})
	}
	if _, err := firstResolver(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want %v", err, fs.ErrNotExist)
	}
}

func TestRelayDoubt(t *testing.T) {
	p := planFor(t, "-cases ^longpath/throughput/up/1$ -subjects direct,pasta -mtu 1500 -cc cubic -repeat 2")
	record := func(subject string, repeat int, late float64) Record {
		return Record{Case: "longpath/throughput/up/1", Subject: subject, MTU: 1500, Family: 4, Congestion: "cubic", Repeat: repeat,
			Values: map[string]float64{"rate": 0.3, relayLateKey: late, helperCPUKey: 1}}
	}
	flags := map[string]int{}
	for _, c := range MakeCells(p, []Record{record("direct", 0, 0), record("pasta", 0, 0), record("direct", 1, 9), record("pasta", 1, 11)}) {
		flags[c.Subject+" "+c.Row.Metric.Name] = len(c.Flags)
	}
	want := map[string]int{"direct rate": 0, "pasta rate": 1, "direct relay_late": 0, "pasta relay_late": 0}
	if diff := cmp.Diff(want, flags); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
}

func TestParseIperf(t *testing.T) {
	tests := []struct {
		name, out string
		want      float64
		err       string // part of the error; empty for none
	}{
		{name: "what was on its way", out: `{"end":{"sum_sent":{"bytes":1e8},"sum_received":{"bytes":1.01e8,"bits_per_second":8e8}}}`, want: 8e8},
		{name: "more than there was", out: `{"end":{"sum_sent":{"bytes":1e8},"sum_received":{"bytes":2e8,"bits_per_second":8e8}}}`, err: "implausible"},
		{name: "its own error", out: `{"error":"unable to connect"}`, err: "iperf3: unable to connect"},
		{name: "no report", out: `iperf3: usage`, err: "read iperf3's report"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseIperf([]byte(tt.out), nil)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if got != tt.want {
				t.Errorf("%v bit/s, want %v", got, tt.want)
			}
		})
	}
}
