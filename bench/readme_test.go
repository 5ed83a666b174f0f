// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// readmeReport is a run in which pasta is missing, slipway failed at one case and
// was odd at another.
func readmeReport(t *testing.T) *Report {
	t.Helper()
	p := planFor(t, "-cases ^tcp/throughput|connect/1$|roundtrip|^memory|^start -subjects direct,slirp4netns,pasta,slipway")
	for i := range p.Subjects {
		s := &p.Subjects[i]
		switch s.Tool {
		case "pasta":
			s.Missing = `not installed: "pasta" <nowhere>`
		case "slirp4netns", "slipway":
			s.Version = s.Tool + " version 1.2.3"
		}
	}
	value := map[string]float64{directName: 40, "slirp4netns": 2, "slipway": 10}
	var records []Record
	for _, s := range p.steps() {
		if s.Subject.Missing != "" || s.Repeat > 0 {
			continue
		}
		r := Record{Case: s.Case.Name(), Subject: s.Subject.Name, MTU: s.MTU, Family: s.Family, Congestion: s.Congestion, Values: map[string]float64{}}
		for _, m := range s.Case.Metrics() {
			r.Values[m.Name] = value[s.Subject.Tool] * float64(s.MTU) / 65520
		}
		switch {
		case s.Subject.Tool == "slipway" && r.Case == "start":
			r.Values, r.Err = nil, "not\nready | *ever*"
		case s.Subject.Tool == "slipway" && r.Case == "tcp/connect/1":
			r.Values["rate"] = 50
		}
		records = append(records, r)
	}
	return &Report{
		Began: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), CommandLine: []string{"bench", "-out", "x"},
		Machine: Machine{Kernel: "6.1.0 x86_64", CPU: "a CPU", Cores: 2}, Plan: p, Records: records, Cells: MakeCells(p, records),
	}
}

func TestUpdateReadme(t *testing.T) {
	dir := t.TempDir()
	r := readmeReport(t)
	if _, err := r.save(filepath.Join(dir, "new.json")); err != nil {
		t.Fatal(err)
	}
	r.Began, r.CommandLine = r.Began.Add(-time.Hour), []string{"bench", "-out", "older"}
	if _, err := r.save(filepath.Join(dir, "old.json")); err != nil {
		t.Fatal(err)
	}
	readme := filepath.Join(dir, "README.md")
	before := "# Title\n" + readmeBegin + "stale\n" + readmeEnd + "the end\n"
	if err := os.WriteFile(readme, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := updateReadme(readme, dir); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(readme)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile("testdata/readme.golden")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("README (-want +got):\n%s", diff)
		}
	}
}

func TestUpdateReadmeRefuses(t *testing.T) {
	good := "a\n" + readmeBegin + readmeEnd
	tests := []struct {
		name   string
		readme string
		change func(*Report)
		err    string
	}{
		{"no marker", "a\n", func(*Report) {}, "no block"},
		{"no end", "a\n" + readmeBegin, func(*Report) {}, "no block"},
		{"interrupted", good, func(r *Report) { r.Interrupted = true }, "interrupted"},
		{"no results", good, func(r *Report) { r.Cells = nil }, "no results"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			readme := filepath.Join(dir, "README.md")
			if err := os.WriteFile(readme, []byte(tt.readme), 0o644); err != nil {
				t.Fatal(err)
			}
			r := readmeReport(t)
			tt.change(r)
			file, err := r.save(filepath.Join(dir, "x.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := updateReadme(readme, file); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
			got, err := os.ReadFile(readme)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.readme, string(got)); diff != "" {
				t.Errorf("README was changed (-want +got):\n%s", diff)
			}
		})
	}
	if err := updateReadme("README.md", t.TempDir()); err == nil || !strings.Contains(err.Error(), "no results in") {
		t.Errorf("empty directory: error %v", err)
	}
}
