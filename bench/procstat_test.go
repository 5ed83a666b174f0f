// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want float64
		err  bool
	}{
		{"plain", "7 (pasta) S 1 7 7 0 -1 4194304 99 0 0 0 150 50 0 0 20 0 1 0 1", 2, false},
		{"name with blank and parenthesis", "7 (a) b)) R 1 7 7 0 -1 4194304 99 0 0 0 1 2 0 0 20 0", 0.03, false},
		{"no name", "7 pasta S 1 7 7", 0, true},
		{"cut off", "7 (pasta) S 1 7 7 0 -1 4194304 99 0 0 0 150", 0, true},
		{"no number", "7 (pasta) S 1 7 7 0 -1 4194304 99 0 0 0 x 50 0 0", 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStat([]byte(tt.in))
			if (err != nil) != tt.err || got != tt.want {
				t.Errorf("got %v, %v, want %v, error %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	got, err := parseStatus("Name:\tpasta\nVmRSS:\t    1234 kB\nRssAnon:\t     200 kB\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(memory{RSS: 1234, Anon: 200}, got); diff != "" {
		t.Errorf("memory (-want +got):\n%s", diff)
	}
	if _, err := parseStatus("Name:\tkthreadd\n"); err == nil {
		t.Error("no error for a process without memory")
	}
}

func TestOwnProcessCanBeRead(t *testing.T) {
	if _, err := cpuSeconds(os.Getpid()); err != nil {
		t.Error(err)
	}
	m, err := processMemory(os.Getpid())
	if err != nil || m.RSS <= 0 {
		t.Errorf("memory %+v, error %v", m, err)
	}
}

func TestParseMachineStat(t *testing.T) {
	tests := []struct {
		name, in string
		want     float64
		err      bool
	}{
		{name: "all", in: "cpu  100 20 300 4000 50 6 70 800 9 1\ncpu0 1 2 3 4 5 6 7 8 9 0\n", want: 4.96},
		{name: "one core's", in: "cpu0 1 2 3 4 5 6 7 8 9 0\n", err: true},
		{name: "short", in: "cpu  1 2 3\n", err: true},
		{name: "no number", in: "cpu  a 20 300 4000 50 6 70 800 9 1\n", err: true},
		{name: "empty", err: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseMachineStat(tt.in)
			if (err != nil) != tt.err || got != tt.want {
				t.Errorf("got %v, error %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestParsePSS(t *testing.T) {
	for in, want := range map[string]int64{
		"00400000-7fff ---p 0 00:00 0 [rollup]\nRss:  9000 kB\nPss:                4242 kB\nPss_Anon: 1 kB\n": 4242,
		"Rss: 1 kB\n": 0, "Pss: many kB\n": 0, "": 0,
	} {
		if got := parsePSS(in); got != want {
			t.Errorf("parsePSS(%q) = %d, want %d", in, got, want)
		}
	}
}
