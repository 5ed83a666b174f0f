// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// runOn plays a run in which a step of the subject takes as long as cost says, and
// returns how often each case was run for each subject.
func runOn(p Plan, cost func(step) time.Duration) (map[string]map[string]int, time.Duration) {
	b, times := newBudget(p.Limit), map[string]map[string]int{}
	for _, round := range p.rounds() {
		if !b.allows(round) {
			continue
		}
		took := time.Duration(0)
		for _, s := range round {
			key := s.conditions()
			if times[key] == nil {
				times[key] = map[string]int{}
			}
			times[key][s.Subject.Name]++
			took += cost(s)
		}
		b.spend(round, took)
	}
	return times, b.spent
}

func TestBudgetIsFair(t *testing.T) {
	p := planFor(t, "-subjects direct,pasta,slipway,slirp4netns")
	slow := func(f float64) func(step) time.Duration {
		return func(s step) time.Duration {
			if s.Subject.Name == "slirp4netns" { // slower than the estimate
				return time.Duration(f * 2 * float64(p.price(s.Case)))
			}
			return time.Duration(f * float64(p.price(s.Case)))
		}
	}
	for _, f := range []float64{0.1, 1, 2, 5, 50} {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			times, spent := runOn(p, slow(f))
			fewest, most := p.Repeat, 0
			for key, bySubject := range times {
				n := bySubject["slipway"]
				for name, k := range bySubject {
					if k != n {
						t.Errorf("%s: %d times for %s, %d for slipway", key, k, name, n)
					}
				}
				fewest, most = min(fewest, n), max(most, n)
			}
			if fewest < 1 || len(times) != len(p.conditions()) {
				t.Errorf("%d of %d cases were run, the rarest %d times", len(times), len(p.conditions()), fewest)
			}
			if most > 1 && spent > p.Limit+p.Limit/20 {
				t.Errorf("repeats were run until %s, with a limit of %s", spent, p.Limit)
			}
			if f <= 0.1 && most != p.Repeat {
				t.Errorf("at most %d rounds with time for %d", most, p.Repeat)
			}
		})
	}
}

func TestBudgetAllows(t *testing.T) {
	round := func(repeat int) []step { return []step{{Case: startCase{}, Repeat: repeat}} }
	b := newBudget(10 * time.Second)
	if !b.allows(nil) || !b.allows(round(0)) {
		t.Error("a first round was not allowed")
	}
	b.spend(round(0), 4*time.Second)
	if !b.allows(round(1)) {
		t.Error("a round was not allowed that fits")
	}
	b.spend(round(1), 3*time.Second)
	b.spend(nil, time.Hour) // a round in which no subject took part
	if !b.allows(round(2)) {
		t.Error("a round was not allowed that just fits")
	}
	b.spend([]step{{Case: memoryCase{}}}, time.Second)
	if b.allows(round(2)) {
		t.Error("a round of 3 s was allowed after 8 s of 10")
	}
}

func TestRoundsTakeTurns(t *testing.T) {
	p := planFor(t, "-cases up/1$|^start|^memory -subjects direct,pasta -mtu 1500,65520 -repeat 2 -cc cubic -quick")
	var got []string
	for _, s := range p.steps() {
		got = append(got, fmt.Sprintf("%s %d %s %d", s.Case.Name(), s.MTU, s.Subject.Name, s.Repeat))
	}
	want := []string{
		"tcp/throughput/up/1 1500 direct 0",
		"tcp/throughput/up/1 1500 pasta 0",
		"iperf3/up/1 1500 direct 0",
		"iperf3/up/1 1500 pasta 0",
		"memory 1500 pasta 0",
		"start 1500 pasta 0",
		"longpath/throughput/up/1 1500 direct 0", // asked for by name
		"longpath/throughput/up/1 1500 pasta 0",
		"tcp/throughput/up/1 65520 direct 0",
		"tcp/throughput/up/1 65520 pasta 0",
		"tcp/throughput/up/1 1500 direct 1",
		"tcp/throughput/up/1 1500 pasta 1",
		"iperf3/up/1 1500 direct 1",
		"iperf3/up/1 1500 pasta 1",
		"start 1500 pasta 1", // memory is read once
		"longpath/throughput/up/1 1500 direct 1",
		"longpath/throughput/up/1 1500 pasta 1",
		"tcp/throughput/up/1 65520 direct 1",
		"tcp/throughput/up/1 65520 pasta 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// TestPlansFit holds the cases to the time that a run is promised to take, with
// every tool there is.
func TestPlansFit(t *testing.T) {
	full, quick := planFor(t, ""), planFor(t, "-quick")
	if e := full.Estimate(); e.First > full.Limit/2 || e.All > full.Limit*3/2 {
		t.Errorf("a full run is %s, with a limit of %s", e, full.Limit)
	}
	if e := quick.Estimate(); e.First > quick.Limit*9/10 {
		t.Errorf("a quick run is %s, with a limit of %s", e, quick.Limit)
	}
	for _, p := range []Plan{full, quick} {
		t.Log(p.announcement())
	}
	for _, s := range quick.steps() {
		if d := delayOf(s.Case); d > 0 {
			t.Errorf("%s, on a path of %s, is part of a quick run", s.Case.Name(), d)
		}
	}
}

func TestAnnouncement(t *testing.T) {
	tests := []struct {
		args string
		want string // part of it
	}{
		{"-cases ^start -repeat 1 -subjects direct,slirp4netns,pasta,slipway", "3 steps"},
		{"-limit 2s -repeat 2 -cases up/1$ -cc cubic", "every case will run once"},
		{"-limit 40s -repeat 4 -cases tcp/throughput/up/1$ -cc cubic", "repeats that do not fit into 40s"},
	}
	for _, tt := range tests {
		if got := planFor(t, tt.args).announcement(); !strings.Contains(got, tt.want) {
			t.Errorf("%s: announced %q, want it to say %q", tt.args, got, tt.want)
		}
	}
	p := planFor(t, "-cases ^start -repeat 1 -subjects direct,slirp4netns,pasta,slipway")
	p.Subjects[1].Missing = "not installed"
	if got := p.Estimate().Steps; got != 2 {
		t.Errorf("%d steps with a subject missing, want 2", got)
	}
}
