// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// throughput makes a record of the case tcp/throughput/up/1 at MTU 1500.
func throughput(subject string, repeat int, rate, cpu float64) Record {
	r := Record{Case: "tcp/throughput/up/1", Subject: subject, MTU: 1500, Family: 4, Congestion: "cubic", Repeat: repeat,
		Values: map[string]float64{"rate": rate}}
	if subject != directName {
		r.Values["cpu"], r.Values[helperCPUKey] = 1, cpu
	}
	return r
}

func planFor(t *testing.T, args string) Plan {
	t.Helper()
	o, err := ParseOptions(strings.Fields(args), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return o.Plan
}

func TestReportRoundTrip(t *testing.T) {
	p := planFor(t, "-cases ^tcp/throughput/up/1$ -cc cubic -subjects direct,pasta -mtu 1500")
	failed := Record{Case: "tcp/throughput/up/1", Subject: "pasta", MTU: 1500, Family: 4, Congestion: "cubic",
		At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Err: "it died", Detail: json.RawMessage(`{"a":1}`)}
	want := &Report{
		Began: failed.At, CommandLine: []string{"bench"}, Machine: describeMachine(), Plan: p,
		Records: []Record{throughput("direct", 0, 50, 0), throughput("pasta", 0, 10, 0.5), failed},
	}
	want.Cells = MakeCells(p, want.Records)
	path, err := want.save(filepath.Join(t.TempDir(), "x.json"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := new(Report)
	if err := json.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	compact := cmp.Transformer("compact", func(m json.RawMessage) any {
		var v any
		if len(m) > 0 {
			if err := json.Unmarshal(m, &v); err != nil {
				t.Fatal(err)
			}
		}
		return v
	})
	if diff := cmp.Diff(want, got, compact, emptyLists); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestMakeCells(t *testing.T) {
	p := planFor(t, "-cases ^tcp/throughput/up/1$ -cc cubic -subjects direct,slirp4netns,pasta,slipway,old=slipway -mtu 1500 -repeat 2")
	records := []Record{
		throughput("direct", 0, 50, 0), throughput("direct", 1, 50, 0),
		throughput("slirp4netns", 0, 9, 1), throughput("slirp4netns", 1, 11, 1),
		throughput("pasta", 0, 60, 1), throughput("pasta", 1, 60, 1),
		throughput("slipway", 0, 20, 0), throughput("slipway", 1, 20, 0),
		{Case: "tcp/throughput/up/1", Subject: "old", MTU: 1500, Family: 4, Congestion: "cubic", Err: "it died"},
	}
	type brief struct {
		Median, Direct, Peer float64
		Missing, Flag        string
	}
	want := map[string]brief{
		"direct":      {Median: 50, Direct: 1},
		"slirp4netns": {Median: 10, Direct: 0.2},
		// Doubtful, so that it is compared with nobody and nobody with it.
		"pasta":   {Median: 60, Flag: "implausible unless it batches what the direct path does not: better than direct (1.20×)"},
		"slipway": {Median: 20, Flag: "not proven: the helper used no CPU time while it should have carried this"},
		"old":     {Missing: "it died"},
	}
	got := map[string]brief{}
	for _, c := range MakeCells(p, records) {
		if c.Row.Metric.Name != "rate" {
			continue
		}
		b := brief{Median: c.Summary.Median, Direct: c.Direct, Peer: c.BestPeer, Missing: c.Missing, Flag: strings.Join(c.Flags, "; ")}
		got[c.Subject] = b
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
}

func TestMissingSubjectIsShown(t *testing.T) {
	p := planFor(t, "-cases ^tcp/throughput/up/1$ -cc cubic -subjects direct,pasta -mtu 1500")
	p.Subjects[1].Missing = "not installed: no pasta here"
	r := &Report{Plan: p, Records: []Record{throughput("direct", 0, 50, 0)}}
	r.Cells = MakeCells(p, r.Records)
	var b strings.Builder
	if err := printReport(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"MISSING: not installed: no pasta here", "missing [1]", "[1] not installed: no pasta here"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report has no %q:\n%s", want, b.String())
		}
	}
}
