// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A chapter is a part of every report: the cases that answer one question.
type chapter struct {
	ID     string   // for links
	Title  string   // as a heading
	About  string   // what is measured, in a sentence or two
	prefix []string // of the cases' names; none for what is left
}

// chapters returns them in their order. A case belongs to the first that fits; the
// last one takes what no other does, so that no result is lost.
func chapters() []chapter {
	return []chapter{
		{"throughput", "TCP throughput", "Bulk data over 1 or 8 connections, counted by the receiver after a warm-up; and the CPU time that the helper used for it.", []string{"tcp/throughput/"}},
		{"iperf3", "TCP throughput by iperf3", "The outside check on the bench's own sender and receiver.", []string{"iperf3/", "tcp/iperf3/"}},
		{"connect", "TCP connections", "Connections that are made, used for one byte and closed, a number of them at a time.", []string{"tcp/connect/"}},
		{"roundtrip", "TCP round trips", "Ping-pong of one message on one connection; the middle, the slowest in a hundred and the slowest in a thousand.", []string{"tcp/roundtrip/"}},
		{"udp", "UDP", "Datagrams on one flow, offered faster and faster until most are lost; what arrives at the best rate. A sender that cannot offer as much as asked delivers less without loss.", []string{"udp/"}},
		{"publish", "Published ports", "A port of the host on which others reach the container.", []string{"publish/", "published/"}},
		{"loopback", "Host loopback", "A service that listens on the host's loopback, reached from the container.", []string{"loopback/"}},
		{"dns", "DNS", "Queries to the helper's own DNS server, which asks a resolver behind it.", []string{"dns"}},
		{"longpath", "Long path", "A path with a delay in it, as to another continent: what windows and buffers allow.", []string{"longpath", "long/"}},
		{"fairness", "Fairness", "A small request beside a bulk transfer: how long one waits for the other.", []string{"fairness"}},
		{"pull", "Big pull", "An archive of many files that the container gets over HTTP and unpacks onto an overlay in memory while it comes in: the time of that, and the CPU time of the helper and of the whole machine. Then the same by a real podman run and podman build, from start to end, with curl and tar in the container; direct is --network host, and pasta serves a namespace that Podman is told to use, since Podman 4.3 does not know it.", []string{"pull"}},
		{"memory", "Memory", "The helper's own memory: at rest, and what idle connections add.", []string{"memory"}},
		{"start", "Start", "From starting the helper until it says that the network is up.", []string{"start"}},
		{"launch-start", "A container, start to end", "From starting the engine until it has ended, for a program that writes one line; the programs that this executes, and the system calls that all of them make, but for sleeps.", []string{"launch/start/"}},
		{"launch-pull", "An image, pulled and unpacked", "From a registry on this machine's loopback until a container could run: the time, the CPU time of the engine's processes, and what is on disk then. skopeo copies the image and umoci unpacks it.", []string{"launch/pull"}},
		{"launch-keepid", "The same image under the user's own id", "The first and the second run of that image with --userns=keep-id, which wants its files to belong to other ids: the time, and what is on disk more than before.", []string{"launch/keep-id"}},
		{"other", "Other cases", "What fits nowhere else.", nil},
	}
}

// holds reports whether the case belongs to the chapter.
func (c chapter) holds(name string) bool {
	return c.prefix == nil || slices.ContainsFunc(c.prefix, func(p string) bool { return strings.HasPrefix(name, p) })
}

// A view is a report arranged for reading.
type view struct {
	*Report
	Parts []viewPart
}

// A viewPart is a chapter with its tables.
type viewPart struct {
	chapter
	Blocks []viewBlock
}

// A viewBlock is one table: rows of one unit under one set of conditions.
type viewBlock struct {
	Conditions string
	MTU        int
	Unit       string
	Higher     bool // whether more is better
	Rows       []viewRow
}

// A viewRow has one cell for each subject of the plan.
type viewRow struct {
	Row
	Label string
	Cells []Cell
}

// newView arranges the report's cells. Rows of detail are left out unless wanted.
func newView(r *Report, detail bool) view {
	v := view{Report: r}
	rows := r.rows(detail)
	taken := make([]bool, len(rows))
	for _, ch := range chapters() {
		part := viewPart{chapter: ch}
		for i, row := range rows {
			if taken[i] || !ch.holds(row.Case) {
				continue
			}
			taken[i] = true
			unit, remark, _ := strings.Cut(row.Metric.Unit, ", ")
			row.Label = ch.label(row.Case, row.Metric.Name, remark)
			part.add(unit, row)
		}
		if len(part.Blocks) > 0 {
			v.Parts = append(v.Parts, part)
		}
	}
	return v
}

// rows returns the report's rows in their order.
func (r *Report) rows(detail bool) []viewRow {
	var rows []viewRow
	at := map[Row]int{}
	column := map[string]int{}
	for i, s := range r.Plan.Subjects {
		column[s.Name] = i
	}
	for _, c := range r.Cells {
		col, known := column[c.Subject]
		if !known || c.Row.Metric.Detail && !detail {
			continue
		}
		i, ok := at[c.Row]
		if !ok {
			i = len(rows)
			at[c.Row] = i
			cells := make([]Cell, len(r.Plan.Subjects))
			for j, s := range r.Plan.Subjects {
				cells[j] = Cell{Row: c.Row, Subject: s.Name, Missing: cmp.Or(s.Missing, "not in these results")}
			}
			rows = append(rows, viewRow{Row: c.Row, Cells: cells})
		}
		rows[i].Cells[col] = c
	}
	return rows
}

// add puts the row into the block that it belongs to.
func (p *viewPart) add(unit string, row viewRow) {
	b := viewBlock{Conditions: row.conditions(), MTU: row.MTU, Unit: unit, Higher: row.Metric.Higher}
	i := slices.IndexFunc(p.Blocks, func(o viewBlock) bool {
		return o.Conditions == b.Conditions && o.Unit == b.Unit && o.Higher == b.Higher
	})
	if i < 0 {
		i = len(p.Blocks)
		p.Blocks = append(p.Blocks, b)
	}
	p.Blocks[i].Rows = append(p.Blocks[i].Rows, row)
	// Tables of the same conditions stand together.
	slices.SortStableFunc(p.Blocks, func(a, b viewBlock) int {
		return cmp.Compare(p.first(a.Conditions), p.first(b.Conditions))
	})
}

// first is the place of the first block under the conditions.
func (p *viewPart) first(conditions string) int {
	return slices.IndexFunc(p.Blocks, func(o viewBlock) bool { return o.Conditions == conditions })
}

// conditions names what the row was measured under.
func (r Row) conditions() string {
	if r.MTU == 0 {
		return launchConditions
	}
	return fmt.Sprintf("MTU %d, IPv%d, %s", r.MTU, r.Family, r.Congestion)
}

// kindWord names what the direct path lacks.
func kindWord(launch bool) string {
	if launch {
		return "container"
	}
	return "helper"
}

// direction says which way is better.
func (b viewBlock) direction() string {
	if b.Higher {
		return more
	}
	return less
}

// mainMetrics are metrics whose names say no more than the chapter does.
var mainMetrics = []string{"rate", "delivered", "ready", "cpu"}

// percentile finds the percentile that a metric is named after.
var percentile = regexp.MustCompile(`p\d+$`)

// label makes a row's label out of what the case's name, the metric and its unit's
// remark say beyond the chapter: "tcp/throughput/up/8" becomes "up, 8 streams".
func (c chapter) label(name, metric, remark string) string {
	var parts []string
	counted := "" // what a number in the name counts
	known := 0    // how much of the name the chapter says
	for _, p := range c.prefix {
		if strings.HasPrefix(name, p) {
			known = len(p)
		}
	}
	at := 0
	for word := range strings.SplitSeq(name, "/") {
		said := at+len(word) <= known
		at += len(word) + 1
		text := strings.ReplaceAll(word, "-", " ")
		n, err := strconv.Atoi(word)
		switch {
		case err == nil:
			text = counting(counted, n)
		case word == "throughput" || word == "iperf3" || word == "connect" || word == "roundtrip" || word == "fairness":
			counted = word
		case word == "udp" || word == "dns":
			counted, text = word, strings.ToUpper(word)
		case word == "tcp":
			text = "TCP"
		}
		if !said && text != "" && word != "throughput" {
			parts = append(parts, text)
		}
	}
	switch {
	case remark != "":
		if p := percentile.FindString(metric); p != "" {
			parts = append(parts, p)
		}
		parts = append(parts, remark)
	case len(parts) == 0 || !slices.Contains(mainMetrics, metric):
		parts = append(parts, strings.TrimSuffix(strings.ReplaceAll(metric, "_", " "), ":"))
	}
	return strings.Join(parts, ", ")
}

// counting says a number of the things that the word counts.
func counting(word string, n int) string {
	switch word {
	case "throughput", "iperf3":
		if n == 1 {
			return "1 stream"
		}
		return fmt.Sprintf("%d streams", n)
	case "connect", "dns":
		return fmt.Sprintf("%d at once", n)
	case "udp", "roundtrip":
		if n >= 1024 && n%1024 == 0 {
			return fmt.Sprintf("%d KiB", n/1024)
		}
		return fmt.Sprintf("%d B", n)
	}
	return strconv.Itoa(n)
}

// notes are the texts of footnotes, each once.
type notes []string

// ref returns the number of the note, which it adds where it is new.
func (n *notes) ref(text string) int {
	text = visible(strings.Join(strings.Fields(text), " "))
	if i := slices.Index(*n, text); i >= 0 {
		return i + 1
	}
	*n = append(*n, text)
	return len(*n)
}

// numbers returns the numbers of the notes that the cell needs: why it is missing,
// or what is odd about it.
func (n *notes) numbers(c Cell) []int {
	all := c.Flags
	switch c.Missing {
	case "":
	case notApplicable:
		all = []string{notApplicable + ": there is no " + kindWord(c.Row.MTU == 0)}
	case notItsCase:
		all = []string{notItsCase + ", to which it is limited"}
	default:
		all = []string{c.Missing}
	}
	var refs []int
	for _, f := range all {
		refs = append(refs, n.ref(f))
	}
	return refs
}

// refs is numbers as "[1] [2]".
func (n *notes) refs(c Cell) string {
	var s []string
	for _, i := range n.numbers(c) {
		s = append(s, fmt.Sprintf("[%d]", i))
	}
	return strings.Join(s, " ")
}

// valueText is the cell's value, or in a word why there is none.
func valueText(c Cell) string {
	switch {
	case !c.Expected():
		return "n/a"
	case c.Missing != "":
		return "missing"
	}
	if c.Row.Metric.Unit != unitYesNo {
		return number(c.Summary.Median)
	}
	switch c.Summary.Median {
	case 1:
		return "yes"
	case 0:
		return "no"
	}
	return "at times"
}

// rangeText is the cell's lowest and highest value, empty where there is only one.
func rangeText(c Cell) string {
	if c.Missing != "" || c.Summary.N < 2 || c.Row.Metric.Unit == unitYesNo {
		return ""
	}
	return number(c.Summary.Min) + "–" + number(c.Summary.Max)
}

// ratiosText are the cell's ratios to the direct path and to the best other tool,
// empty where there are none.
func ratiosText(c Cell, tool map[string]string) string {
	if tool[c.Subject] == directName || c.Row.Metric.Unit == unitYesNo {
		return ""
	}
	var s []string
	if c.Direct != 0 {
		s = append(s, number(c.Direct)+"×d")
	}
	if c.BestPeer != 0 {
		s = append(s, number(c.BestPeer)+"×p")
	}
	return strings.Join(s, " ")
}
