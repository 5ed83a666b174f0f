// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// resultsDir is where results are kept, relative to the repository.
const resultsDir = "bench/results"

// A Record is what one step yielded: values, or the reason why there are none.
type Record struct {
	Case       string             `json:"case"`
	Subject    string             `json:"subject"`
	MTU        int                `json:"mtu"`
	Family     int                `json:"family"`
	Congestion string             `json:"congestion"`
	Repeat     int                `json:"repeat"`
	At         time.Time          `json:"at"`
	Values     map[string]float64 `json:"values,omitempty"`
	Detail     json.RawMessage    `json:"detail,omitempty"` // the case's raw numbers
	Command    []string           `json:"command,omitempty"`
	CPUs       map[string]string  `json:"cpus,omitempty"` // on which each kind of process might run
	Startup    time.Duration      `json:"startup_ns,omitempty"`
	Proof      *Proof             `json:"proof,omitempty"`
	Err        string             `json:"error,omitempty"`
	// MissingFrom is the metric from which on values are missing for Err; empty if
	// all are.
	MissingFrom string `json:"missing_from,omitempty"`
}

// A Report is everything that a run found out; it is the JSON file.
type Report struct {
	Schema      int       `json:"schema"` // schemaVersion; 1 stands for a file without one
	Began       time.Time `json:"began"`
	Took        string    `json:"took"`
	Interrupted bool      `json:"interrupted"`
	LeftOut     int       `json:"left_out"` // repeats, to stay within the limit
	CommandLine []string  `json:"command_line"`
	Estimate    Estimate  `json:"estimate"` // what the run was expected to take
	Machine     Machine   `json:"machine"`
	Plan        Plan      `json:"plan"`
	Cells       []Cell    `json:"cells"`
	Records     []Record  `json:"records"`
}

// save writes the report to bench/results/name.json, or to name itself if that is
// a path, and returns the file's path.
func (r *Report) save(name string) (string, error) {
	path := resultPath(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("save results: %w", err)
	}
	r.Schema = schemaVersion
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return "", fmt.Errorf("save results: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("save results: %w", err)
	}
	return path, nil
}

// resultPath is where the report of the name goes.
func resultPath(name string) string {
	if strings.ContainsRune(name, filepath.Separator) {
		return name
	}
	return filepath.Join(resultsDir, strings.TrimSuffix(name, ".json")+".json")
}
