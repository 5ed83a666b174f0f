// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// update makes the tests write what they got as what they want.
var update = flag.Bool("update", false, "write the golden files")

// golden compares got with the file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// A rowSpec is a row with its values by subject.
type rowSpec struct {
	name   string
	mtu    int
	metric Metric
	values [][]float64 // by subject; nil for the reason below
	reason string
	flag   string // of the last subject
}

// sampleReport is a small run, written down: pasta is not installed, slipway failed
// at one case, and at another it was better than what is possible.
func sampleReport() *Report {
	subjects := []Subject{
		{Name: "direct", Tool: directName},
		{Name: "slirp4netns", Tool: "slirp4netns", Version: "slirp4netns version 1.2.3"},
		{Name: "pasta", Tool: "pasta", Missing: `not installed: "pasta" <nowhere>`},
		{Name: "slipway", Tool: "slipway", Version: "slipway 0.1"},
	}
	gbits := Metric{Name: "rate", Unit: "Gbit/s", Higher: true, Bounded: true}
	cpu := Metric{Name: "cpu", Unit: "CPU s/GB", Helper: true}
	rows := []rowSpec{
		{"tcp/throughput/up/1", 65520, gbits, [][]float64{{50, 52}, {5, 6}, nil, {20, 22}}, "", ""},
		{"tcp/throughput/up/1", 65520, cpu, [][]float64{nil, {0.8, 0.9}, nil, {0.4, 0.4}}, notApplicable, ""},
		{"tcp/throughput/up/8", 65520, gbits, [][]float64{{80, 80}, {10, 11}, nil, {9, 10}}, "", ""},
		{"tcp/connect/16", 65520, Metric{Name: "rate", Unit: "conn/s", Higher: true, Bounded: true}, [][]float64{{30000, 32000}, {12000, 12100}, nil, {8000, 8100}}, "", ""},
		{"tcp/roundtrip/1", 65520, Metric{Name: "p50", Unit: "µs"}, [][]float64{{30, 31}, {90, 110}, nil, {100, 120}}, "", ""},
		{"tcp/roundtrip/1", 65520, Metric{Name: "p999", Unit: "µs", Detail: true}, [][]float64{{300}, {900}, nil, {450}}, "", ""},
		{"udp/up/1400", 65520, Metric{Name: "delivered", Unit: "k/s", Higher: true, Bounded: true}, [][]float64{{400, 410}, {200, 210}, nil, {600, 640}}, "", "implausible: better than direct (1.53×)"},
		{"start", 65520, Metric{Name: "ready", Unit: "ms to ready"}, [][]float64{nil, {4}, nil, nil}, "not\nready | *ever* \x1b[31m", ""},
		{"tcp/throughput/up/1", 1500, gbits, [][]float64{{55, 57}, {2, 2}, nil, {21, 23}}, "", ""},
		{"a/new/case", 65520, Metric{Name: "rate", Unit: "apples", Higher: true}, [][]float64{{1}, {2}, nil, {3}}, "", ""},
	}
	r := &Report{
		Schema: schemaVersion, Began: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Took: "1m2s", CommandLine: []string{"bench", "-out", "x"},
		Machine: Machine{Kernel: "6.1.0 x86_64", CPU: "a CPU", Cores: 2, Allowed: "0-1", Memory: "1 kB", OS: "an OS", Go: "go1.2.3", Load: []string{"0.1", "0.2"}, Sysctls: map[string]string{"net.x": "1"},
			Affinity: map[string]string{kindHelper: "1"}, Warnings: []string{"the machine is busy"}},
		Plan: Plan{Subjects: subjects, Repeat: 2, Window: time.Second, Warmup: time.Second / 4, MTUs: []int{65520, 1500}, Families: []int{4}, Congestion: []string{"cubic"}},
	}
	for _, spec := range rows {
		r.Cells = append(r.Cells, spec.cells(subjects)...)
	}
	steps, err := json.Marshal([]loadStep{{20e3, 20e3, 0}, {40e3, 30e3, 25}})
	if err != nil {
		panic(err)
	}
	r.Records = []Record{
		{Case: "udp/up/1400", Subject: "slipway", MTU: 65520, Family: 4, Congestion: "cubic", Values: map[string]float64{"delivered": 30}, Detail: steps, Command: []string{"slipway", "attach", "--mtu", "65520", "4711"}, Proof: &Proof{Exe: "slipway", PID: 4711, Paths: []string{"stacked"}}},
		{Case: "udp/up/1400", Subject: "slipway", MTU: 65520, Family: 4, Congestion: "cubic", Repeat: 1, Values: map[string]float64{"delivered": 30}, Detail: steps, Command: []string{"slipway", "attach", "--mtu", "65520", "4712"}, Proof: &Proof{Failed: "nobody has it"}},
	}
	return r
}

// cells makes the row's cells, with ratios to the direct path and between slipway
// and slirp4netns.
func (spec rowSpec) cells(subjects []Subject) []Cell {
	row := Row{Case: spec.name, MTU: spec.mtu, Family: 4, Congestion: "cubic", Metric: spec.metric}
	var cells []Cell
	for i, s := range subjects {
		c := Cell{Row: row, Subject: s.Name, Values: spec.values[i], Summary: Summarize(spec.values[i])}
		switch {
		case c.Values == nil && s.Missing != "":
			c.Missing = s.Missing
		case c.Values == nil && spec.reason == notApplicable && s.Tool != directName:
			c.Missing = "not measured"
		case c.Values == nil && spec.name == "start" && s.Tool == directName:
			c.Missing = notApplicable
		case c.Values == nil:
			c.Missing = spec.reason
		case i > 0 && spec.values[0] != nil:
			c.Direct = c.Summary.Median / cells[0].Summary.Median
		}
		if i == len(subjects)-1 && c.Missing == "" {
			c.BestPeer = c.Summary.Median / cells[1].Summary.Median
			if spec.flag != "" {
				c.Flags, c.Doubt, c.Direct, c.BestPeer = []string{spec.flag}, true, 0, 0
			}
		}
		cells = append(cells, c)
	}
	return cells
}

func TestTableGolden(t *testing.T) {
	for _, tt := range []struct {
		name   string
		screen screen
		change func(*Report)
	}{
		{"table120.golden", screen{width: 120}, func(*Report) {}},
		{"table80.golden", screen{width: 80}, func(r *Report) { r.Interrupted, r.LeftOut = true, 3 }},
		{"table60.golden", screen{width: 60}, func(*Report) {}},
		{"tablecolor.golden", screen{width: 120, color: true}, func(r *Report) { r.Cells = r.Cells[:8] }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := sampleReport()
			tt.change(r)
			text := strings.TrimPrefix(reportText(r, tt.screen), drawing)
			golden(t, tt.name, text)
			for l := range strings.Lines(sgr.ReplaceAllString(text, "")) {
				if n := len([]rune(strings.TrimRight(l, "\n"))); n > tt.screen.width {
					t.Errorf("line of %d columns on a screen of %d: %q", n, tt.screen.width, l)
				}
			}
			if !tt.screen.color && strings.ContainsRune(text, '\x1b') {
				t.Error("an escape sequence without colour")
			}
		})
	}
}

// sgr matches what changes the style of text (ECMA-48 SGR).
var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestDocsGolden(t *testing.T) {
	r := sampleReport()
	page, err := docsPage([]*Report{r})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "docs.golden", page)
	if page, err = docsPage([]*Report{r, sampleLaunch()}); err != nil {
		t.Fatal(err)
	}
	golden(t, "docslaunch.golden", page)
	r.Interrupted = true
	if _, err := docsPage([]*Report{r}); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("interrupted results: error %v", err)
	}
}

// TestGeneratedIsCurrent holds the committed pages to the committed results.
func TestGeneratedIsCurrent(t *testing.T) {
	all, err := newestOfEach("results")
	if err != nil {
		t.Fatal(err)
	}
	page, err := docsPage(all)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join("..", readmeFile))
	if err != nil {
		t.Fatal(err)
	}
	text := string(readme)
	for _, r := range all {
		block, err := readmeBlock(r)
		if err != nil {
			t.Fatal(err)
		}
		if text, err = replaceBlock(text, block, readmeOf(r)); err != nil {
			t.Fatal(err)
		}
	}
	docs, err := os.ReadFile(filepath.Join("..", docsFile))
	if err != nil {
		t.Fatal(err)
	}
	const mend = "make bench-readme makes them again"
	if diff := cmp.Diff(text, string(readme)); diff != "" {
		t.Errorf("%s is not that of the newest results (%s) (-want +got):\n%s", readmeFile, mend, diff)
	}
	if diff := cmp.Diff(page, string(docs)); diff != "" {
		t.Errorf("%s is not that of the newest results (%s) (-want +got):\n%s", docsFile, mend, diff)
	}
}
