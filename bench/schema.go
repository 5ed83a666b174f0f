// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// schemaVersion is the version of the results file that this bench writes; what the
// fields mean is told in bench/results/README.md. A version is a promise: a field that
// is added, renamed or gone makes a new one.
//
//	1  files without a version, written until November 2026
//	2  the version itself
//	3  plan.launch, and rows without conditions of a network
const schemaVersion = 3

// Bounds of a results file, beyond which it is not read.
const (
	maxResultBytes = 64 << 20
	maxSubjects    = 32
	maxCells       = 20000
	maxRecords     = 100000
	maxNumber      = 1e15 // of a value; the fastest memory moves less in bits per second
)

// readReport reads a results file of any version.
func readReport(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxResultBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	r, err := parseReport(b)
	if err != nil {
		return nil, fmt.Errorf("read results in %s: %w", path, err)
	}
	return r, nil
}

// parseReport reads the results and checks that they make sense: whoever shows them
// relies on it.
func parseReport(b []byte) (*Report, error) {
	if len(b) > maxResultBytes {
		return nil, fmt.Errorf("more than %d MiB: that is no file of the bench", maxResultBytes>>20)
	}
	var version struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("not JSON of the bench: %w", err)
	}
	r := &Report{Schema: 1}
	d := json.NewDecoder(bytes.NewReader(b))
	if version.Schema != nil {
		if *version.Schema < 2 || *version.Schema > schemaVersion {
			return nil, fmt.Errorf("schema %d: this bench reads 1 to %d; is it older than the file?", *version.Schema, schemaVersion)
		}
		// Fields came and went before there was a version.
		d.DisallowUnknownFields()
	}
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("not results of schema %d: %w", r.Schema, err)
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	return r, nil
}

// validate checks what cannot be in results that the bench wrote.
func (r *Report) validate() error {
	switch {
	case len(r.CommandLine) == 0:
		return errors.New("no results of the bench: there is no command line")
	case r.Began.IsZero():
		return errors.New("no results of the bench: there is no time")
	case len(r.Plan.Subjects) == 0 || len(r.Plan.Subjects) > maxSubjects:
		return fmt.Errorf("%d subjects: want 1 to %d", len(r.Plan.Subjects), maxSubjects)
	case len(r.Cells) > maxCells || len(r.Records) > maxRecords:
		return fmt.Errorf("%d cells and %d records: want at most %d and %d", len(r.Cells), len(r.Records), maxCells, maxRecords)
	}
	known := map[string]bool{}
	for _, s := range r.Plan.Subjects {
		if s.Name == "" || s.Tool == "" || known[s.Name] {
			return fmt.Errorf("subject %q of tool %q: the name is empty or there twice, or there is no tool", s.Name, s.Tool)
		}
		known[s.Name] = true
	}
	type place struct {
		Row
		subject string
	}
	seen := map[place]bool{}
	for _, c := range r.Cells {
		at := place{c.Row, c.Subject}
		if seen[at] {
			return fmt.Errorf("cell %s %s of %q is there twice", c.Row.Case, c.Row.Metric.Name, c.Subject)
		}
		seen[at] = true
		if err := c.validate(known, isLaunch(r)); err != nil {
			return fmt.Errorf("cell %s %s of %q: %w", c.Row.Case, c.Row.Metric.Name, c.Subject, err)
		}
	}
	for _, rec := range r.Records {
		if rec.Case == "" || !known[rec.Subject] || rec.Repeat < 0 || rec.Startup < 0 {
			return fmt.Errorf("record %q of %q, repeat %d: no case, unknown subject or negative number", rec.Case, rec.Subject, rec.Repeat)
		}
	}
	return nil
}

// validate checks one cell.
func (c Cell) validate(subjects map[string]bool, launch bool) error {
	s := c.Summary
	switch {
	case !subjects[c.Subject]:
		return errors.New("unknown subject")
	case c.Row.Case == "" || c.Row.Metric.Name == "" || c.Row.Metric.Unit == "":
		return errors.New("no case, metric or unit")
	case !c.Row.possible(launch):
		return fmt.Errorf("MTU %d, IPv%d: no such conditions", c.Row.MTU, c.Row.Family)
	case (c.Missing != "") == (s.N > 0):
		return fmt.Errorf("%d values and missing for %q: want one of them", s.N, c.Missing)
	case s.Median < s.Min || s.Max < s.Median || s.N < 0:
		return fmt.Errorf("median %v is not between %v and %v", s.Median, s.Min, s.Max)
	case math.Abs(s.Min) > maxNumber || math.Abs(s.Max) > maxNumber:
		return fmt.Errorf("%v to %v: no machine is like that", s.Min, s.Max)
	case len(c.Values) > 0 && s != Summarize(c.Values):
		return fmt.Errorf("the summary %+v is not that of the values %v", s, c.Values)
	case c.Direct < 0 || c.BestPeer < 0:
		return errors.New("negative ratio")
	}
	return nil
}

// possible reports whether there are such conditions: container engines have none.
func (r Row) possible(launch bool) bool {
	if launch {
		return r.MTU == 0 && r.Family == 0 && r.Congestion == ""
	}
	return r.MTU >= minMTU && r.MTU <= maxMTU && (r.Family == 4 || r.Family == 6)
}
