// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What is generated from results, relative to the repository.
const (
	readmeFile = "README.md"
	docsFile   = "docs/benchmarks.md"
)

// A readmeKind is what the README shows of a kind of run: a block between two lines,
// which is made, never typed.
type readmeKind struct {
	begin, end string
	tools      []string // the columns, in their order; one for each that took part
	rows       []readmeRow
}

// networkReadme is of network helpers, launchReadme of container engines.
var (
	networkReadme = readmeKind{
		begin: "<!-- bench:begin -->\n", end: "<!-- bench:end -->\n",
		tools: []string{directName, "slirp4netns", "pasta", "rootlesskit", "gvisor-tap-vsock", ownTool},
		rows:  readmeRows[:],
	}
	launchReadme = readmeKind{
		begin: "<!-- bench:launch:begin -->\n", end: "<!-- bench:launch:end -->\n",
		tools: []string{directName, "bwrap", "crun", "runc", "podman", "umoci", ownTool},
		rows:  launchRows[:],
	}
)

// readmeOf is the kind of the results.
func readmeOf(r *Report) readmeKind {
	if isLaunch(r) {
		return launchReadme
	}
	return networkReadme
}

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

// readmeRows are the lines of the README's table: what a user decides by. Of rows
// with the same label the first that was measured counts.
var readmeRows = [...]readmeRow{
	{"TCP up, 1 stream, MTU 65520", "tcp/throughput/up/1", 65520, "rate", "Gbit/s " + more, 1},
	{"TCP down, 1 stream, MTU 65520", "tcp/throughput/down/1", 65520, "rate", "Gbit/s " + more, 1},
	{"TCP up, 1 stream, MTU 1500", "tcp/throughput/up/1", 1500, "rate", "Gbit/s " + more, 1},
	{"TCP down, 1 stream, MTU 1500", "tcp/throughput/down/1", 1500, "rate", "Gbit/s " + more, 1},
	{"TCP up, 8 streams", "tcp/throughput/up/8", 0, "rate", "Gbit/s " + more, 1},
	{"TCP connections, 1 at once", "tcp/connect/1", 0, "rate", "per second " + more, 1},
	{"TCP connections, 16 at once", "tcp/connect/16", 0, "rate", "per second " + more, 1},
	{"round trip of 1 B, median", "tcp/roundtrip/1", 0, "p50", "µs " + less, 1},
	{"UDP up, 1400 B, delivered", "udp/up/1400", 0, "delivered", "1000 per second " + more, 1},
	{"UDP down, 1400 B, delivered", "udp/down/1400", 0, "delivered", "1000 per second " + more, 1},
	{"published port, from outside, TCP into the container", "publish/remote/tcp/down", 0, "rate", "Gbit/s " + more, 1},
	{"published port, 16 connections at once", "publish/remote/connect/16", 0, "rate", "per second " + more, 1},
	{"DNS queries, 16 at once", "dns/16", 0, "rate", "per second " + more, 1},
	{"TCP down over a path of 100 ms, 1 stream", "longpath/throughput/down/1", 0, "rate", "Gbit/s " + more, 1},
	{"round trip beside a bulk upload, p99", "fairness/up", 0, "p99", "µs " + less, 1},
	{"archive by HTTP, unpacked onto an overlay", "pull", 0, "time", "s per GB " + less, 1},
	{"the same by `podman run`, all of it", podmanPrefix + podmanRun, 0, "time", "s per GB " + less, 1},
	{"the same by `podman build`, all of it", podmanPrefix + podmanBuild, 0, "time", "s per GB " + less, 1},
	{"start to ready", "start", 0, "ready", "ms " + less, 1},
	{"memory (RSS), idle", "memory", 0, "idle", "MB " + less, 1},
	{"memory per 1000 idle connections", "memory", 0, "per1000", "MB " + less, 1},
	{"memory per 1000 idle connections", "memory", 0, "perconn", "MB " + less, idlePerConn},
}

// launchRows are those of container engines.
var launchRows = [...]readmeRow{
	{"a container without a network, start to end", launchStart{}.Name(), 0, "time", "ms " + less, 1},
	{"a container with a network, start to end", launchStart{network: true}.Name(), 0, "time", "ms " + less, 1},
	{"programs executed for it", launchStart{network: true}.Name(), 0, "execs", less, 1},
	{"system calls", launchStart{network: true}.Name(), 0, "calls", less, 1},
	{"without a network: programs executed", launchStart{}.Name(), 0, "execs", less, 1},
	{"without a network: system calls", launchStart{}.Name(), 0, "calls", less, 1},
	{"an image pulled and unpacked", launchPull{}.Name(), 0, "time", "s " + less, 1},
	{"CPU time of that", launchPull{}.Name(), 0, "cpu", "s " + less, 1},
	{"disk that it takes", launchPull{}.Name(), 0, "disk", "MB " + less, 1},
	{"first run of it with keep-id", launchKeepID{}.Name(), 0, "first", "s " + less, 1},
	{"second run of it with keep-id", launchKeepID{}.Name(), 0, "second", "s " + less, 1},
	{"disk that the first run takes", launchKeepID{}.Name(), 0, "first_disk", "MB " + less, 1},
}

// updateReadme rewrites the README's blocks and the page of all results below root
// from the newest results of each kind in a directory, or from those in a file and, of
// the other kind, the newest beside it.
func updateReadme(root, results string) error {
	all, err := newestOfEach(results)
	if err != nil {
		return err
	}
	page, err := docsPage(all)
	if err != nil {
		return err
	}
	readme := filepath.Join(root, readmeFile)
	old, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("update the README: %w", err)
	}
	text := string(old)
	for _, r := range all {
		block, err := readmeBlock(r)
		if err != nil {
			return err
		}
		if text, err = replaceBlock(text, block, readmeOf(r)); err != nil {
			return fmt.Errorf("update %s: %w", readme, err)
		}
	}
	if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
		return fmt.Errorf("update the README: %w", err)
	}
	if err := os.WriteFile(filepath.Join(root, docsFile), []byte(page), 0o644); err != nil {
		return fmt.Errorf("write the page of all results: %w", err)
	}
	return nil
}

// replaceBlock returns text with block between the kind's markers.
func replaceBlock(text, block string, kind readmeKind) (string, error) {
	head, rest, begun := strings.Cut(text, kind.begin)
	_, tail, ended := strings.Cut(rest, kind.end)
	if !begun || !ended {
		return "", fmt.Errorf("no block between the lines %q and %q", kind.begin, kind.end)
	}
	return head + kind.begin + block + kind.end + tail, nil
}

// newestOfEach returns the results of each kind at path: of network helpers, and of
// container engines where there are any.
func newestOfEach(path string) ([]*Report, error) {
	given, err := newestReport(path, nil)
	if err != nil {
		return nil, err
	}
	dir := path
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		dir = filepath.Dir(path)
	} else {
		given = nil
	}
	var all []*Report
	for _, launch := range []bool{false, true} {
		if given != nil && isLaunch(given) == launch {
			all = append(all, given)
			continue
		}
		r, err := newestReport(dir, func(r *Report) bool { return isLaunch(r) == launch })
		if err != nil && !launch {
			return nil, err
		}
		if err == nil {
			all = append(all, r)
		}
	}
	return all, nil
}

// newestReport reads the results at path. Of those in a directory that are wanted, all
// where want is nil, it takes the ones that were measured last: the times of files do
// not survive version control.
func newestReport(path string, want func(*Report) bool) (*Report, error) {
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
		if want != nil && !want(r) {
			continue
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
	if len(r.Cells) == 0 || len(r.Plan.MTUs) == 0 {
		return "", errors.New("these are no results of the bench: there is nothing in them")
	}
	var (
		b       strings.Builder
		n       notes
		kind    = readmeOf(r)
		columns = readmeColumns(r.Plan, kind.tools)
		done    []string // labels
		unmet   []string
	)
	b.WriteString("| |")
	for _, s := range columns {
		fmt.Fprintf(&b, " %s |", markdown(s.Name))
	}
	b.WriteString(" slipway ÷ direct | slipway ÷ best other |\n|---|" + strings.Repeat("--:|", len(columns)+2) + "\n")
	for _, row := range kind.rows {
		switch {
		case slices.Contains(done, row.label):
		case row.write(&b, r, columns, &n):
			done = append(done, row.label)
			unmet = slices.DeleteFunc(unmet, func(l string) bool { return l == row.label })
		case !slices.Contains(unmet, row.label):
			unmet = append(unmet, row.label)
		}
	}
	if len(done) == 0 {
		return "", errors.New("none of the README's rows is in these results")
	}
	b.WriteByte('\n')
	writeNotes(&b, n)
	if len(unmet) > 0 {
		fmt.Fprintf(&b, "Not measured in this run: %s.\n\n", strings.Join(unmet, "; "))
	}
	writeBars(&b, r)
	writeSeen(&b, r, columns)
	b.WriteString(readmeOrigin(r, columns))
	return b.String(), nil
}

// writeNotes writes the footnotes as a paragraph.
func writeNotes(b *strings.Builder, n notes) {
	for i, text := range n {
		fmt.Fprintf(b, "[%d] %s.  \n", i+1, markdown(strings.TrimSuffix(text, ".")))
	}
	if len(n) > 0 {
		b.WriteByte('\n')
	}
}

// readmeColumns returns the subject of each column: of each tool the one called like
// it, else the first. A subject that took no part has none.
func readmeColumns(p Plan, tools []string) []Subject {
	var columns []Subject
	for _, tool := range tools {
		at := -1
		for i, s := range p.Subjects {
			if s.Tool == tool && s.Missing == "" && (at < 0 || s.Name == tool) {
				at = i
			}
		}
		if at >= 0 {
			columns = append(columns, p.Subjects[at])
		}
	}
	return columns
}

// write writes the row's line, and reports whether there is one: not where nobody
// was measured.
func (row readmeRow) write(b *strings.Builder, r *Report, columns []Subject, n *notes) bool {
	var cells []Cell
	known := false
	var own Cell
	for _, s := range columns {
		c, ok := row.find(r, s.Name)
		known = known || ok
		cells = append(cells, c)
		if s.Tool == ownTool {
			own = c
		}
	}
	if !known {
		return false
	}
	fmt.Fprintf(b, "| %s, %s |", row.label, row.unit)
	for _, c := range cells {
		text := valueText(c)
		if c.Missing == "" {
			text = number(c.Summary.Median * row.scale)
		}
		if refs := n.refs(c); refs != "" {
			text += " " + refs
		}
		fmt.Fprintf(b, " %s |", text)
	}
	direct := ""
	if own.Row.Metric.Higher { // of what is to be low, the direct path has next to nothing
		direct = ratio(own.Direct)
	}
	fmt.Fprintf(b, " %s | %s |\n", direct, ratio(own.BestPeer))
	return true
}

// find returns the subject's cell, or one that says that there is none.
func (row readmeRow) find(r *Report, subject string) (Cell, bool) {
	for _, c := range r.Cells {
		if c.Subject == subject && c.Row.Case == row.name && c.Row.Metric.Name == row.metric && (row.mtu == 0 || c.Row.MTU == row.mtu) {
			return c, true // the first is that of the run's first MTU, family and congestion control
		}
	}
	return Cell{Missing: "not measured in this run"}, false
}

func ratio(v float64) string {
	if v == 0 {
		return ""
	}
	return number(v) + "×"
}

// markdown escapes what Markdown would take for its own, and puts the text on one
// line.
func markdown(s string) string {
	s = visible(strings.Join(strings.Fields(s), " "))
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "]", `\]`).Replace(s)
}

// readmeOrigin is the paragraph that says where the numbers are from.
func readmeOrigin(r *Report, columns []Subject) string {
	var versions []string
	for _, s := range columns {
		if v := s.Version; v != "" {
			if !strings.HasPrefix(v, s.Name) {
				v = s.Name + ": " + v
			}
			versions = append(versions, markdown(v))
		}
	}
	for _, s := range r.Plan.Subjects {
		if s.Missing != "" {
			versions = append(versions, markdown(s.Name+" is missing ("+s.Missing+")"))
		}
	}
	conditions := fmt.Sprintf("MTU %d where none is named", r.Plan.MTUs[0])
	if isLaunch(r) {
		conditions = launchConditions
	}
	return fmt.Sprintf("Medians of up to %d; ↑ more is better, ↓ less is; %s. Measured %s on Linux %s, %d cores (%s); %s; by `%s`. [All results](%s).\n",
		r.Plan.Repeat, conditions, r.Began.Format("2006-01-02"), markdown(r.Machine.Kernel), r.Machine.Cores, markdown(r.Machine.CPU),
		strings.Join(versions, ", "), strings.ReplaceAll(commandLine(r), "`", "'"), docsFile)
}
