// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestProgressLines runs a progress that is no terminal's by a clock of its own.
func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, 5*time.Minute)
	now := p.start
	p.now = func() time.Time { return now }
	tick := func(d time.Duration, what string, r Record) {
		p.begin(what, time.Second)
		now = now.Add(d)
		p.done(&r)
	}
	p.setTotal(25, 25*time.Second)
	tick(10*time.Second, "tcp/a mtu 1500: direct, repeat 1", Record{})
	tick(10*time.Second, "tcp/a mtu 1500: pasta, repeat 1", Record{Case: "tcp/a", Subject: "pasta", Err: "it\ndied \x1b[2J"})
	tick(10*time.Second, "udp/b mtu 1500: direct, repeat 1", Record{})
	p.skip(time.Second)
	tick(40*time.Second, "udp/b mtu 1500: pasta, repeat 1", Record{})
	tick(time.Second, "udp/b mtu 1500: slipway, repeat 1", Record{})
	p.setTotal(fewSteps, fewSteps*time.Second)
	tick(time.Second, "udp/b mtu 1500: direct, repeat 2", Record{})
	p.end()
	p.end()
	want := `[1/25] 0s: tcp/a mtu 1500: direct, repeat 1
tcp/a, pasta: it died �[2J
[3/25] 20s, about 3m50s left: udp/b mtu 1500: direct, repeat 1
[5/24] 1m10s, about 3m50s left: udp/b mtu 1500: slipway, repeat 1
[6/20] 1m11s, about 3m33s left: udp/b mtu 1500: direct, repeat 2
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

// TestProgressBar looks at what a terminal would get.
func TestProgressBar(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, 0)
	p.setTotal(3, 3*time.Second)
	p.makeBar()
	p.end() // before it began
	p.begin("tcp/a: direct", time.Second)
	p.done(&Record{Case: "tcp/a", Subject: "direct", Err: "it died"})
	p.begin("tcp/a: pasta", time.Second)
	p.bar.Write()
	p.end()
	p.end()
	got := out.String()
	for _, want := range []string{"tcp/a: pasta", "1 / 3", "tcp/a, direct: it died\n", " left"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if !strings.HasSuffix(strings.TrimRight(got, " \r"), "left  tcp/a: pasta") && !strings.HasSuffix(got, "\r") {
		t.Errorf("the bar is not taken away: %q", got)
	}
}
