// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// encode returns the report as a results file.
func encode(t testing.TB, r *Report) []byte {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseReport(t *testing.T) {
	want := sampleReport()
	got, err := parseReport(encode(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, emptyLists); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestParseKept reads every results file that is kept, old ones too.
func TestParseKept(t *testing.T) {
	files, err := filepath.Glob("results/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, error %v", files, err)
	}
	for _, f := range files {
		r, err := readReport(f)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(r.Cells) == 0 || len(r.Records) == 0 {
			t.Errorf("%s: %d cells, %d records", f, len(r.Cells), len(r.Records))
		}
	}
}

func TestParseReportRefuses(t *testing.T) {
	tests := []struct {
		name string
		in   string // replaces the file, unless empty
		do   func(*Report)
		want string
	}{
		{"empty", " ", nil, "not JSON"},
		{"not JSON", "results", nil, "not JSON"},
		{"a list", "[]", nil, "not JSON"},
		{"something else", `{"hello": 1}`, nil, "no command line"},
		{"more behind", string(encode(t, sampleReport())) + "{}", nil, "not JSON"},
		{"unknown field", `{"schema": 2, "hello": 1}`, nil, `unknown field "hello"`},
		{"from the future", `{"schema": 99}`, nil, "schema 99"},
		{"version that says it has none", `{"schema": 1}`, nil, "schema 1"},
		{"wrong type", `{"schema": 2, "cells": 3}`, nil, "not results of schema"},
		{"no time", "", func(r *Report) { r.Began = time.Time{} }, "no time"},
		{"no subjects", "", func(r *Report) { r.Plan.Subjects = nil }, "0 subjects"},
		{"too many subjects", "", func(r *Report) { r.Plan.Subjects = make([]Subject, maxSubjects+1) }, "33 subjects"},
		{"subject twice", "", func(r *Report) { r.Plan.Subjects[1] = r.Plan.Subjects[0] }, "twice"},
		{"nameless subject", "", func(r *Report) { r.Plan.Subjects[1].Name = "" }, "empty"},
		{"too many cells", "", func(r *Report) { r.Cells = make([]Cell, maxCells+1) }, "cells"},
		{"cell of nobody", "", func(r *Report) { r.Cells[0].Subject = "x" }, "unknown subject"},
		{"cell twice", "", func(r *Report) { r.Cells[1] = r.Cells[0] }, "twice"},
		{"cell of no case", "", func(r *Report) { r.Cells[0].Row.Case = "" }, "no case"},
		{"strange MTU", "", func(r *Report) { r.Cells[0].Row.MTU = 3 }, "MTU 3"},
		{"strange family", "", func(r *Report) { r.Cells[0].Row.Family = 5 }, "IPv5"},
		{"neither value nor reason", "", func(r *Report) { r.Cells[0].Values, r.Cells[0].Summary = nil, Summary{} }, "want one of them"},
		{"value and reason", "", func(r *Report) { r.Cells[0].Missing = "x" }, "want one of them"},
		{"median outside", "", func(r *Report) { r.Cells[0].Summary.Median = 99 }, "not between"},
		{"summary of others", "", func(r *Report) { r.Cells[0].Values[0] = 51 }, "not that of the values"},
		{"beyond any machine", "", func(r *Report) {
			r.Cells[0].Values = []float64{1e16}
			r.Cells[0].Summary = Summarize(r.Cells[0].Values)
		}, "no machine"},
		{"negative ratio", "", func(r *Report) { r.Cells[3].BestPeer = -1 }, "negative ratio"},
		{"record of nobody", "", func(r *Report) { r.Records[0].Subject = "x" }, "unknown subject"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			if tt.do != nil {
				r := sampleReport()
				tt.do(r)
				in = encode(t, r)
			}
			if _, err := parseReport(in); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// jsonNames collects the names of all fields of t and below.
func jsonNames(t reflect.Type, names *[]string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		jsonNames(t.Elem(), names)
	case reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name == "-" || slices.Contains(*names, name) {
				continue
			}
			*names = append(*names, name)
			jsonNames(f.Type, names)
		}
	}
}

// TestSchemaIsDocumented holds the description of the file to its types.
func TestSchemaIsDocumented(t *testing.T) {
	b, err := os.ReadFile("results/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	jsonNames(reflect.TypeFor[Report](), &names)
	for _, n := range names {
		if !strings.Contains(string(b), "`"+n+"`") {
			t.Errorf("results/README.md does not tell what `%s` is", n)
		}
	}
	if len(names) < 40 {
		t.Errorf("only %d names: are the types looked into?", len(names))
	}
}

// FuzzParseReport reads hostile files. What is accepted can be shown in every way,
// and read again.
func FuzzParseReport(f *testing.F) {
	f.Add(encode(f, sampleLaunch()))
	f.Add(encode(f, sampleReport()))
	f.Add([]byte(`{"schema":2}`))
	f.Add([]byte(`{"began":"2026-01-02T03:04:05Z","command_line":["x"],"plan":{"subjects":[{"name":"a","tool":"slipway"}]}}`))
	f.Add([]byte(`{"began":"2026-01-02T03:04:05Z","command_line":["x"],"plan":{"mtus":[1500],"subjects":[{"name":"a","tool":"slipway"}]},
		"cells":[{"row":{"case":"udp/up/1","mtu":1500,"family":4,"metric":{"name":"p50","unit":"k/s"}},"subject":"a","summary":{"n":1,"median":1e-320,"min":0,"max":1e14}}],
		"records":[{"case":"udp/up/1","subject":"a","mtu":1500,"family":4,"detail":[{"offered_pps":1e308,"delivered_pps":1e-320,"loss_percent":3}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseReport(b)
		if err != nil {
			return
		}
		reportText(r, screen{width: minWidth})
		if _, err := htmlReport(r); err != nil {
			t.Errorf("page: %v", err)
		}
		if _, err := readmeBlock(r); err == nil {
			if _, err := docsPage([]*Report{r}); err != nil {
				t.Errorf("docs: %v", err)
			}
		}
		r.Schema = schemaVersion
		if _, err := parseReport(encode(t, r)); err != nil {
			t.Errorf("read again: %v", err)
		}
	})
}
