// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// readmeFile is the file with the block, relative to the repository.
const readmeFile = "README.md"

// The lines between which the block stands. What is between them is made, never
// typed.
const (
	readmeBegin = "<!-- bench:begin -->\n"
	readmeEnd   = "<!-- bench:end -->\n"
)

// readmeTools are the columns, in their order.
var readmeTools = [...]string{directName, "slirp4netns", "pasta", "slipway"}

// A readmeRow is one line of the README's table: a metric of a case at an MTU.
type readmeRow struct {
	label  string
	name   string // of the case
	mtu    int    // bytes; 0 for the first of the run
	metric string
	unit   string  // with the arrow that says which way is better
	scale  float64 // from the metric's unit to this one
}

// idlePerConn turns the KiB of one connection into the MB of a thousand.
const idlePerConn = 1000 * 1024 / 1e6

// The arrows say which way is better.
const (
	more = "↑"
	less = "↓"
)

// readmeRows are the lines of the README's table.
var readmeRows = [...]readmeRow{
	{"TCP up, 1 stream, MTU 65520", "tcp/throughput/up/1", 65520, "rate", "Gbit/s " + more, 1},
	{"TCP down, 1 stream, MTU 65520", "tcp/throughput/down/1", 65520, "rate", "Gbit/s " + more, 1},
	{"TCP up, 1 stream, MTU 1500", "tcp/throughput/up/1", 1500, "rate", "Gbit/s " + more, 1},
	{"TCP down, 1 stream, MTU 1500", "tcp/throughput/down/1", 1500, "rate", "Gbit/s " + more, 1},
	{"TCP up, 8 streams", "tcp/throughput/up/8", 0, "rate", "Gbit/s " + more, 1},
	{"TCP down, 8 streams", "tcp/throughput/down/8", 0, "rate", "Gbit/s " + more, 1},
	{"TCP connections, 1 at once", "tcp/connect/1", 0, "rate", "per second " + more, 1},
	{"TCP connections, 16 at once", "tcp/connect/16", 0, "rate", "per second " + more, 1},
	{"round trip of 1 B, median", "tcp/roundtrip/1", 0, "p50", "µs " + less, 1},
	{"round trip of 16 KiB, median", "tcp/roundtrip/16384", 0, "p50", "µs " + less, 1},
	{"UDP up, 1400 B, delivered", "udp/up/1400", 0, "delivered", "1000 per second " + more, 1},
	{"UDP down, 1400 B, delivered", "udp/down/1400", 0, "delivered", "1000 per second " + more, 1},
	{"start to ready", "start", 0, "ready", "ms " + less, 1},
	{"memory (RSS), idle", "memory", 0, "idle", "MB " + less, 1},
	{"memory per 1000 idle connections", "memory", 0, "perconn", "MB " + less, idlePerConn},
}

// updateReadme rewrites the README's block from the results in a file, or from the
// newest in a directory.
func updateReadme(readme, results string) error {
	r, err := newestReport(results)
	if err != nil {
		return err
	}
	block, err := readmeBlock(r)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("update the README: %w", err)
	}
	text, err := replaceBlock(string(old), block)
	if err != nil {
		return fmt.Errorf("update %s: %w", readme, err)
	}
	if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
		return fmt.Errorf("update the README: %w", err)
	}
	return nil
}

// replaceBlock returns text with block between the markers.
func replaceBlock(text, block string) (string, error) {
	head, rest, begun := strings.Cut(text, readmeBegin)
	_, tail, ended := strings.Cut(rest, readmeEnd)
	if !begun || !ended {
		return "", fmt.Errorf("no block between the lines %q and %q", readmeBegin, readmeEnd)
	}
	return head + readmeBegin + block + readmeEnd + tail, nil
}

// newestReport reads the results at path. Of a directory it takes those that were
// measured last: the times of files do not survive version control.
func newestReport(path string) (*Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	if !info.IsDir() {
		return readReport(path)
	}
	files, err := filepath.Glob(filepath.Join(path, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	var newest *Report
	for _, f := range files {
		r, err := readReport(f)
		if err != nil {
			return nil, err
		}
		if newest == nil || r.Began.After(newest.Began) {
			newest = r
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("no results in %s: make some with go run ./bench -out NAME", path)
	}
	return newest, nil
}

// readmeBlock returns the table, its notes and what it was measured on.
func readmeBlock(r *Report) (string, error) {
	if r.Interrupted {
		return "", errors.New("these results are of an interrupted run: measure again")
	}
	if len(r.CommandLine) == 0 || len(r.Cells) == 0 || len(r.Plan.MTUs) == 0 {
		return "", errors.New("these are no results of the bench")
	}
	var (
		b     strings.Builder
		notes readmeNotes
		names = readmeSubjects(r.Plan)
	)
	b.WriteString("| |")
	for _, tool := range readmeTools {
		fmt.Fprintf(&b, " %s |", tool)
	}
	b.WriteString(" slipway ÷ direct | slipway ÷ best other |\n|---|" + strings.Repeat("--:|", len(readmeTools)+2) + "\n")
	for _, row := range readmeRows {
		row.write(&b, r, names, &notes)
	}
	b.WriteByte('\n')
	for i, n := range notes {
		fmt.Fprintf(&b, "[%d] %s.  \n", i+1, n)
	}
	if len(notes) > 0 {
		b.WriteByte('\n')
	}
	b.WriteString(readmeOrigin(r, names))
	return b.String(), nil
}

// readmeSubjects names the subject of each column: the one called like the tool,
// else the first of that kind; empty where there is none.
func readmeSubjects(p Plan) map[string]string {
	names := map[string]string{}
	for _, s := range p.Subjects {
		if names[s.Tool] == "" || s.Name == s.Tool {
			names[s.Tool] = s.Name
		}
	}
	return names
}

// write writes the row's line.
func (row readmeRow) write(b *strings.Builder, r *Report, names map[string]string, notes *readmeNotes) {
	fmt.Fprintf(b, "| %s, %s |", row.label, row.unit)
	var last Cell
	for _, tool := range readmeTools {
		last = row.find(r, names[tool])
		fmt.Fprintf(b, " %s |", row.text(last, notes))
	}
	direct := ""
	if last.Row.Metric.Higher { // of what is to be low, the direct path has next to nothing
		direct = ratio(last.Direct)
	}
	fmt.Fprintf(b, " %s | %s |\n", direct, ratio(last.BestPeer))
}

// find returns the subject's cell, or one that says why there is none.
func (row readmeRow) find(r *Report, subject string) Cell {
	for _, c := range r.Cells {
		if c.Subject == subject && c.Row.Case == row.name && c.Row.Metric.Name == row.metric && (row.mtu == 0 || c.Row.MTU == row.mtu) {
			return c // the first is that of the run's first MTU, family and congestion control
		}
	}
	return Cell{Missing: "not measured in this run"}
}

// text is what the table shows of the cell.
func (row readmeRow) text(c Cell, notes *readmeNotes) string {
	if c.Missing == notApplicable {
		return "– " + notes.ref("does not apply: there is no helper")
	}
	if c.Missing != "" {
		return "– " + notes.ref(c.Missing)
	}
	s := number(c.Summary.Median * row.scale)
	for _, f := range c.Flags {
		s += " " + notes.ref(f)
	}
	return s
}

func ratio(v float64) string {
	if v == 0 {
		return ""
	}
	return number(v) + "×"
}

// readmeNotes are the texts of the footnotes, each once.
type readmeNotes []string

// ref returns the reference to the note, which it adds where it is new.
func (n *readmeNotes) ref(text string) string {
	// Marks that Markdown would take for its own.
	text = strings.NewReplacer("<", "&lt;", "|", `\|`, "*", `\*`, "_", `\_`).Replace(strings.Join(strings.Fields(text), " "))
	for i, known := range *n {
		if known == text {
			return fmt.Sprintf("[%d]", i+1)
		}
	}
	*n = append(*n, text)
	return fmt.Sprintf("[%d]", len(*n))
}

// readmeOrigin is the line that says where the numbers are from.
func readmeOrigin(r *Report, names map[string]string) string {
	var versions []string
	for _, tool := range readmeTools {
		for _, s := range r.Plan.Subjects {
			if s.Name == names[tool] && s.Version != "" {
				versions = append(versions, s.Version)
			}
		}
	}
	command := strings.Join(concat([]string{"go run ./bench"}, r.CommandLine[1:]), " ")
	return fmt.Sprintf("Medians of up to %d; ↑ more is better, ↓ less is; MTU %d where none is named. Measured %s on Linux %s, %d cores (%s); %s; by `%s`.\n",
		r.Plan.Repeat, r.Plan.MTUs[0], r.Began.Format("2006-01-02"), r.Machine.Kernel, r.Machine.Cores, r.Machine.CPU, strings.Join(versions, ", "), command)
}
