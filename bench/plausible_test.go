// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestValueRules(t *testing.T) {
	rate := Metric{Name: "rate", Higher: true, Bounded: true}
	worked := map[string]float64{helperCPUKey: 0.5, sentKey: 10, receivedKey: 9}
	tests := []struct {
		name   string
		metric Metric
		detail bool // not the case's main metric
		value  float64
		all    map[string]float64
		window time.Duration
		want   string // the rule that is broken; empty for none
	}{
		{name: "a result", metric: rate, value: 10, all: worked},
		{name: "NaN", metric: rate, value: math.NaN(), all: worked, want: "not a number"},
		{name: "infinite", metric: rate, value: math.Inf(1), all: worked, want: "not a number"},
		{name: "negative", metric: rate, value: -0.1, all: worked, want: "negative"},
		{name: "negative memory", metric: Metric{Name: "add900"}, detail: true, value: -3, want: "negative"},
		{name: "zero bytes", metric: rate, value: 0, all: worked, want: "zero"},
		{name: "zero time", metric: Metric{Name: "p50"}, value: 0, want: "zero"},
		{name: "zero loss", metric: Metric{Name: "loss"}, detail: true, value: 0},
		{name: "as much received as sent", metric: rate, value: 1, all: map[string]float64{sentKey: 9, receivedKey: 9}},
		{name: "more received than sent", metric: rate, value: 1, all: map[string]float64{sentKey: 9, receivedKey: 10}, want: "more received than sent"},
		{name: "received, but none sent", metric: rate, value: 1, all: map[string]float64{sentKey: 0, receivedKey: 1}, want: "more received than sent"},
		{name: "no CPU", metric: rate, value: 1, all: map[string]float64{helperCPUKey: 0}, want: "no CPU time"},
		{name: "woke up", metric: rate, value: 1, all: map[string]float64{helperCPUKey: leastCPU}, want: "no CPU time"},
		{name: "little CPU", metric: rate, value: 1, all: map[string]float64{helperCPUKey: 2 * leastCPU}},
		{name: "no CPU in a short window", metric: rate, value: 1, all: map[string]float64{helperCPUKey: 0}, window: proofWindow - 1},
		{name: "late relay", metric: rate, value: 1, all: map[string]float64{relayLateKey: relayLateShare}, want: "late relay"},
		{name: "a relay in time", metric: rate, value: 1, all: map[string]float64{relayLateKey: relayLateShare / 2}},
		{name: "no helper", metric: rate, value: 1, all: map[string]float64{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.window == 0 {
				tt.window = time.Second
			}
			s := sight{Metric: tt.metric, Main: !tt.detail, Value: tt.value, All: tt.all, Window: tt.window}
			got := ""
			for _, r := range valueRules {
				if r.broken(s) {
					got = r.name
					if why := implausible(s); why == "" || why != r.why(s) {
						t.Errorf("reason %q, want that of the rule %q: %q", why, r.name, r.why(s))
					}
					break
				}
			}
			if got != tt.want || (got == "") != (implausible(s) == "") {
				t.Errorf("rule %q (reason %q), want %q", got, implausible(s), tt.want)
			}
		})
	}
}

func TestCellRules(t *testing.T) {
	up := Metric{Name: "rate", Higher: true, Bounded: true}
	down := Metric{Name: "p50", Bounded: true}
	tests := []struct {
		name   string
		metric Metric
		values []float64
		direct float64
		want   string // the rules that are broken
	}{
		{name: "below direct", metric: up, values: []float64{9, 10}, direct: 20},
		{name: "within the slack", metric: up, values: []float64{109}, direct: 100},
		{name: "above direct", metric: up, values: []float64{111}, direct: 100, want: "better than direct"},
		{name: "above, but not bounded", metric: Metric{Name: "x", Higher: true}, values: []float64{111}, direct: 100},
		{name: "no direct path", metric: up, values: []float64{111}},
		{name: "slower than direct", metric: down, values: []float64{30}, direct: 20},
		{name: "faster than direct", metric: down, values: []float64{17}, direct: 20, want: "better than direct"},
		{name: "faster within the slack", metric: down, values: []float64{18.5}, direct: 20},
		{name: "spread", metric: up, values: []float64{1, 3}},
		{name: "wide spread", metric: up, values: []float64{1, 2, 3.1}, want: "wide spread"},
		{name: "wide spread of a detail", metric: Metric{Name: "loss", Detail: true}, values: []float64{1, 9}},
		{name: "wide above direct", metric: up, values: []float64{10, 50}, direct: 20, want: "better than direct, wide spread"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Cell{Row: Row{Metric: tt.metric}, Values: tt.values, Summary: Summarize(tt.values)}
			var got []string
			for _, r := range cellRules {
				if r.broken(c, tt.direct) {
					got = append(got, r.name)
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, ", ")); diff != "" {
				t.Errorf("broken rules (-want +got):\n%s", diff)
			}
			c.doubt(tt.direct)
			if c.Doubtful() != (tt.want != "") || len(c.Flags) != len(got) {
				t.Errorf("doubtful %v with flags %q, want %d flags", c.Doubtful(), c.Flags, len(got))
			}
		})
	}
}

// TestImplausibleIsNotAveraged follows odd repeats from the records to the table.
func TestImplausibleIsNotAveraged(t *testing.T) {
	p := planFor(t, "-cases ^tcp/throughput/up/1$ -subjects direct,slirp4netns,pasta,slipway -mtu 1500 -cc cubic -repeat 3")
	less := throughput("slirp4netns", 2, 80, 1)
	less.Values[sentKey], less.Values[receivedKey] = 1, 2
	records := []Record{
		throughput("direct", 0, 50, 0), throughput("direct", 1, 50, 0),
		// One impossible repeat: the other two count.
		throughput("slirp4netns", 0, 10, 1), throughput("slirp4netns", 1, 12, 1), less,
		// Nothing but impossible repeats: shown, not built upon.
		throughput("pasta", 0, 30, 0), throughput("pasta", 1, 40, 0),
		// As bad as that, and it makes the whole cell doubtful.
		throughput("slipway", 0, 4, 1), throughput("slipway", 1, 22, 1),
	}
	type brief struct {
		Values, Rejected     []float64
		Median, Direct, Peer float64
		Doubt                bool
		Flags                string
	}
	want := map[string]brief{
		"direct": {Values: []float64{50, 50}, Median: 50, Direct: 1},
		"slirp4netns": {Values: []float64{10, 12}, Rejected: []float64{80}, Median: 11, Direct: 0.22,
			Flags: "1 of 3 repeats left out (80.0): the receiver counted 2 bytes, the sender 1"},
		"pasta": {Rejected: []float64{30, 40}, Median: 35, Doubt: true,
			Flags: "not proven: the helper used no CPU time while it should have carried this"},
		"slipway": {Values: []float64{4, 22}, Median: 13, Doubt: true,
			Flags: "the repeats differ by more than 3×, so that their median says little"},
	}
	got := map[string]brief{}
	cells := MakeCells(p, records)
	for _, c := range cells {
		if c.Row.Metric.Name == "rate" {
			got[c.Subject] = brief{c.Values, c.Rejected, c.Summary.Median, c.Direct, c.BestPeer, c.Doubtful(), strings.Join(c.Flags, "; ")}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	var b strings.Builder
	if err := printReport(&b, &Report{Plan: p, Records: records, Cells: cells}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"35.0 (30.0–40.0) [", "13.0 (4.00–22.0) [", "11.0 (10.0–12.0) [", "0.22×d", "the receiver counted 2 bytes", "differ by more than 3×"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, b.String())
		}
	}
}

// TestDropNonFinite makes sure that a record can always be sent as JSON.
func TestDropNonFinite(t *testing.T) {
	values := map[string]float64{"rate": 1, "p50": math.NaN(), "p99": math.Inf(-1)}
	err := dropNonFinite(values)
	if err == nil || err.Error() != "implausible: p50 is NaN" {
		t.Errorf("error %v, want one about p50", err)
	}
	if diff := cmp.Diff(map[string]float64{"rate": 1}, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if _, err := json.Marshal(Record{Values: values}); err != nil {
		t.Error(err)
	}
	if err := dropNonFinite(values); err != nil {
		t.Errorf("error %v for finite values", err)
	}
	if err := dropNonFinite(nil); err != nil {
		t.Errorf("error %v for no values", err)
	}
}
