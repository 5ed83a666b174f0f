// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLabels(t *testing.T) {
	tests := []struct {
		name, metric, unit string // of the case
		chapter, want      string
	}{
		{"tcp/throughput/up/1", "rate", "Gbit/s", "throughput", "up, 1 stream"},
		{"tcp/throughput/down/8", "cpu", "CPU s/GB", "throughput", "down, 8 streams"},
		{"iperf3/up/1", "rate", "Gbit/s", "iperf3", "up, 1 stream"},
		{"tcp/connect/16/server-closes", "rate", "conn/s", "connect", "16 at once, server closes"},
		{"tcp/connect/64", "p99", "ms", "connect", "64 at once, p99"},
		{"tcp/roundtrip/16384", "p999", "µs", "roundtrip", "16 KiB, p999"},
		{"udp/up/8192", "delivered", "k/s", "udp", "up, 8 KiB"},
		{"udp/down/64", "clean", "k/s, loss ≤ 1 %", "udp", "down, 64 B, loss ≤ 1 %"},
		{"publish/remote/tcp/up", "rate", "Gbit/s", "publish", "remote, TCP, up"},
		{"publish/loopback/connect/16", "rate", "conn/s", "publish", "loopback, connect, 16 at once"},
		{"publish/remote/udp/1400", "delivered", "k/s", "publish", "remote, UDP, 1400 B"},
		{"dns/16", "rate", "queries/s", "dns", "16 at once"},
		{"dns/16", "p99", "ms", "dns", "16 at once, p99"},
		{"longpath/throughput/up/16", "rate", "Gbit/s", "longpath", "up, 16 streams"},
		{"longpath/connect", "answer", "ms to the first byte", "longpath", "connect, answer"},
		{"fairness/up", "p99", "µs, TCP probe", "fairness", "up, p99, TCP probe"},
		{"memory", "add900", "MB, +900 idle conn.", "memory", "+900 idle conn."},
		{"memory", "idle_anon", "MB RssAnon", "memory", "idle anon"},
		{"start", "ready", "ms to ready", "start", "ready"},
		{"brand/new", "rate", "apples", "other", "brand, new"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.metric, func(t *testing.T) {
			r := &Report{Plan: Plan{Subjects: []Subject{{Name: "direct", Tool: directName}}}}
			row := Row{Case: tt.name, MTU: 1500, Family: 4, Congestion: "cubic", Metric: Metric{Name: tt.metric, Unit: tt.unit}}
			r.Cells = []Cell{{Row: row, Subject: "direct", Missing: "x"}}
			v := newView(r, true)
			if len(v.Parts) != 1 || len(v.Parts[0].Blocks) != 1 || len(v.Parts[0].Blocks[0].Rows) != 1 {
				t.Fatalf("view of one cell: %+v", v.Parts)
			}
			got := [2]string{v.Parts[0].ID, v.Parts[0].Blocks[0].Rows[0].Label}
			if want := [2]string{tt.chapter, tt.want}; got != want {
				t.Errorf("chapter and label %q, want %q", got, want)
			}
		})
	}
}

// TestViewLosesNothing counts cells.
func TestViewLosesNothing(t *testing.T) {
	r := sampleReport()
	for _, detail := range []bool{true, false} {
		want := 0
		for _, c := range r.Cells {
			if detail || !c.Row.Metric.Detail {
				want++
			}
		}
		got := 0
		for _, part := range newView(r, detail).Parts {
			for _, b := range part.Blocks {
				for _, row := range b.Rows {
					got += len(row.Cells)
				}
			}
		}
		if got != want {
			t.Errorf("detail %v: %d cells, want %d", detail, got, want)
		}
	}
	r.Cells = r.Cells[:2] // of four
	cells := newView(r, true).Parts[0].Blocks[0].Rows[0].Cells
	if got := cells[2].Missing; got != r.Plan.Subjects[2].Missing {
		t.Errorf("a cell that is not there is missing for %q", got)
	}
	if got := cells[3].Missing; got != "not in these results" {
		t.Errorf("a cell that is not there is missing for %q", got)
	}
}

func TestStandings(t *testing.T) {
	cell := func(subject string, higher bool, values ...float64) Cell {
		return Cell{Row: Row{Metric: Metric{Higher: higher}}, Subject: subject, Values: values, Summary: Summarize(values)}
	}
	tests := []struct {
		name      string
		own, peer Cell
		want      string
	}{
		{"better", cell("s", true, 20, 21), cell("p", true, 10, 11), "1 better"},
		{"less is better", cell("s", false, 10, 11), cell("p", false, 20, 21), "1 better"},
		{"worse", cell("s", true, 10, 11), cell("p", true, 20, 21), "1 worse"},
		{"less would be better", cell("s", false, 20, 21), cell("p", false, 10, 11), "1 worse"},
		{"overlap", cell("s", true, 10, 21), cell("p", true, 20, 30), "1 unclear"},
		{"once", cell("s", true, 20), cell("p", true, 10, 11), "1 unclear"},
		{"even", cell("s", true, 100, 101), cell("p", true, 97, 98), "1 even"},
		{"ours is missing", Cell{Missing: "x"}, cell("p", true, 1, 2), "1 not comparable"},
		{"nothing to compare with", cell("s", true, 1, 2), Cell{}, "1 not comparable"},
		{"zero", cell("s", true, 0, 0), cell("p", true, 1, 2), "1 not comparable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v chapterVerdict
			v.sort("row", "unit", tt.own, tt.peer)
			if got := v.Counts(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestStandingString(t *testing.T) {
	s := standing{Label: "up", Unit: "Gbit/s", Times: 0.5, Own: Cell{Summary: Summary{Median: 1}}, Peer: Cell{Subject: "pasta", Summary: Summary{Median: 2}}}
	yes := func(v float64) Cell {
		return Cell{Subject: "pasta", Row: Row{Metric: Metric{Unit: unitYesNo, Higher: true}}, Summary: Summary{Median: v}}
	}
	if diff := cmp.Diff("kept: no, with pasta yes", standing{Label: "kept", Unit: unitYesNo, Own: yes(0), Peer: yes(1)}.String()); diff != "" {
		t.Errorf("standing (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("up: 2.00× worse than pasta (1.00 vs 2.00 Gbit/s)", s.String()); diff != "" {
		t.Errorf("standing (-want +got):\n%s", diff)
	}
}

func TestNumber(t *testing.T) {
	tests := []struct {
		in   float64
		want string
	}{
		{0, "0"}, {31234.5, "31234"}, {99.96, "100"}, {99.94, "99.9"}, {10, "10.0"}, {9.996, "10.0"}, {9.99, "9.99"},
		{0.0999, "0.10"}, {0.0901, "0.090"}, {0.009987, "0.010"}, {0.00026, "0.00026"}, {-3, "-3.000"},
	}
	for _, tt := range tests {
		if got := number(tt.in); got != tt.want {
			t.Errorf("number(%v) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
