// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuickNamesWhatItLeavesOut(t *testing.T) {
	quick := planFor(t, "-quick")
	var kept []string
	for _, c := range quick.cases() {
		kept = append(kept, c.Name())
		if strings.Contains(quick.forgone(), " "+c.Name()+",") {
			t.Errorf("%s is said to be left out, and runs", c.Name())
		}
	}
	for _, c := range allCases() {
		if !slices.Contains(kept, c.Name()) && !strings.Contains(quick.forgone(), " "+c.Name()+",") {
			t.Errorf("%s does not run, and %q does not say so", c.Name(), quick.forgone())
		}
	}
	// One of each kind, but for those that take seconds.
	var chapters []string
	for _, ch := range newView(&Report{Plan: quick, Cells: MakeCells(quick, nil)}, false).Parts {
		chapters = append(chapters, ch.ID)
	}
	want := []string{"throughput", "connect", "roundtrip", "udp", "publish", "loopback", "dns", "fairness", "memory", "start"}
	if diff := cmp.Diff(want, chapters); diff != "" {
		t.Errorf("chapters (-want +got):\n%s", diff)
	}
	for _, args := range []string{"", "-quick -cases ^longpath/"} {
		p := planFor(t, args)
		if text := p.forgone(); text != "" {
			t.Errorf("%q: said %q of a run that leaves out nothing", args, text)
		}
		if !slices.ContainsFunc(p.cases(), func(c Case) bool { return strings.HasPrefix(c.Name(), "longpath/") }) {
			t.Errorf("%q: there is no long path", args)
		}
	}
}

// TestLimitedSubject looks at a subject that takes part in some cases only.
func TestLimitedSubject(t *testing.T) {
	p := planFor(t, "-subjects pasta,slipway,stacked=slipway#^tcp/ -cases ^tcp/roundtrip/1$|^dns/1$ -mtu 1500 -cc cubic -repeat 1")
	var ran []string
	var records []Record
	for _, s := range p.steps() {
		ran = append(ran, s.Subject.Name+" "+s.Case.Name())
		records = append(records, Record{Case: s.Case.Name(), Subject: s.Subject.Name, MTU: 1500, Family: 4, Congestion: "cubic",
			Values: map[string]float64{"p50": 100, "p99": 200, "p999": 300, "rate": 1000, "failed": 0, helperCPUKey: 1}})
	}
	want := []string{"pasta tcp/roundtrip/1", "slipway tcp/roundtrip/1", "stacked tcp/roundtrip/1", "pasta dns/1", "slipway dns/1"}
	if diff := cmp.Diff(want, ran); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	r := &Report{Plan: p, Cells: MakeCells(p, records)}
	for _, c := range r.Cells {
		limited := c.Subject == "stacked" && c.Row.Case == "dns/1"
		if (c.Missing != "") != limited || limited && (c.Expected() || valueText(c) != "n/a") {
			t.Errorf("%s %s: missing for %q, shown as %q", c.Subject, c.Row.Case, c.Missing, valueText(c))
		}
	}
	for _, s := range standingsOf(r) {
		if has := slices.ContainsFunc(s.Chapters, func(ch chapterVerdict) bool { return ch.ID == "dns" }); has != (s.Subject == "slipway") {
			t.Errorf("%s has a verdict on DNS: %v", s.Subject, has)
		}
	}
}

// TestOwnFlags asks programs that know a subject's own flag, and that do not.
func TestOwnFlags(t *testing.T) {
	dir := openDir(t)
	for name, missing := range map[string]string{
		"echo ' --accel WHEN'":   "",
		"echo ' --other'":        `too old: fake attach --help has no "--accel" (fake 1.0`,
		"echo --accel >&2; exit": "",
		"echo --accel; exit 1":   "too old",
	} {
		s, err := ParseSubject(fakeHelper(t, dir, "fake", name) + "+--accel=off+-x")
		if err != nil {
			t.Fatal(err)
		}
		s.askVersion(t.Context(), defaultStartLimit)
		if (s.Missing == "") != (missing == "") || !strings.Contains(s.Missing, missing) {
			t.Errorf("%q: missing for %q, want %q", name, s.Missing, missing)
		}
	}
}
