// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// evenWithin is the difference below which two results count as even.
const evenWithin = 0.05

// ownTool is the kind of subject that standings is given.
const ownTool = "slipway"

// A standing is how one of our subjects stands beside the best other tool in a row.
type standing struct {
	Chapter string
	Label   string // of the row, with its conditions where they are not the first
	Unit    string
	Own     Cell
	Peer    Cell
	Times   float64 // how many times better, or below 1: worse
}

// A chapterVerdict sorts the rows of a chapter.
type chapterVerdict struct {
	Title, ID string
	// Better and Worse are clear: by more than evenWithin, and the repeats do not
	// overlap. Unclear are those whose repeats overlap, or that have only one.
	Better, Worse, Unclear, Even []standing
	Open                         int // rows without a value of ours or of a peer, or a doubtful one
}

// standings are about one subject of ours.
type standings struct {
	Subject  string
	Chapters []chapterVerdict
}

// standingsOf compares each of our subjects with the best other tool, row by row. Rows
// of detail take no part.
func standingsOf(r *Report) []standings {
	v := newView(r, false)
	kind := toolsOf(r.Plan)
	var all []standings
	for i, s := range r.Plan.Subjects {
		if s.Tool != ownTool || s.Missing != "" {
			continue
		}
		one := standings{Subject: s.Name}
		for _, part := range v.Parts {
			ch := chapterVerdict{Title: part.Title, ID: part.ID}
			for _, b := range part.Blocks {
				for _, row := range b.Rows {
					label := strings.Join(append([]string{row.Label}, unlike(b.Conditions, part.Blocks[0].Conditions)...), ", ")
					if !row.Cells[i].Expected() {
						continue
					}
					ch.sort(label, b.Unit, row.Cells[i], bestPeer(row.Cells, kind))
				}
			}
			if ch.Counts() != "" {
				one.Chapters = append(one.Chapters, ch)
			}
		}
		all = append(all, one)
	}
	return all
}

// unlike returns the conditions that differ from the first ones.
func unlike(conditions, first string) []string {
	known := strings.Split(first, ", ")
	return slices.DeleteFunc(strings.Split(conditions, ", "), func(c string) bool { return slices.Contains(known, c) })
}

// bestPeer returns the best cell of another tool that is not doubtful, or the zero
// Cell.
func bestPeer(cells []Cell, kind map[string]string) Cell {
	var best Cell
	for _, c := range cells {
		k := kind[c.Subject]
		if k == ownTool || k == directName || c.Doubtful() || c.Summary.Median <= 0 {
			continue
		}
		if best.Subject == "" || c.Row.Metric.Higher == (c.Summary.Median > best.Summary.Median) {
			best = c
		}
	}
	return best
}

// sort files the row.
func (v *chapterVerdict) sort(label, unit string, own, peer Cell) {
	if own.Doubtful() || peer.Subject == "" || own.Summary.Median <= 0 && unit != unitYesNo {
		v.Open++
		return
	}
	a, b := own.Summary, peer.Summary
	s := standing{Chapter: v.Title, Label: label, Unit: unit, Own: own, Peer: peer, Times: a.Median / b.Median}
	if !own.Row.Metric.Higher {
		s.Times = 1 / s.Times
	}
	switch {
	case s.Times > 1/(1+evenWithin) && s.Times < 1+evenWithin:
		v.Even = append(v.Even, s)
	case a.N < 2 || b.N < 2 || overlap(own, peer):
		v.Unclear = append(v.Unclear, s)
	case s.Times > 1:
		v.Better = append(v.Better, s)
	default:
		v.Worse = append(v.Worse, s)
	}
}

// overlap reports whether some of the one's repeats lie among the other's, outliers
// aside.
func overlap(a, b Cell) bool {
	aLow, aHigh := a.bulk()
	bLow, bHigh := b.bulk()
	return aLow <= bHigh && bLow <= aHigh
}

// Counts says how many rows there are of each kind, leaving out kinds without any.
func (v chapterVerdict) Counts() string {
	var s []string
	add := func(n int, what string) {
		if n > 0 {
			s = append(s, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(len(v.Better), "better")
	add(len(v.Even), "even")
	add(len(v.Unclear), "unclear")
	add(len(v.Worse), "worse")
	add(v.Open, "not comparable")
	return strings.Join(s, ", ")
}

// Total returns the sum of all chapters.
func (v standings) Total() chapterVerdict {
	var t chapterVerdict
	for _, c := range v.Chapters {
		t.Better = append(t.Better, c.Better...)
		t.Even = append(t.Even, c.Even...)
		t.Unclear = append(t.Unclear, c.Unclear...)
		t.Worse = append(t.Worse, c.Worse...)
		t.Open += c.Open
	}
	return t
}

// Best returns the row with the greatest lead.
func (v chapterVerdict) Best() (standing, bool) {
	if len(v.Better) == 0 {
		return standing{}, false
	}
	return slices.MaxFunc(v.Better, func(a, b standing) int { return cmp.Compare(a.Times, b.Times) }), true
}

// String says the standing in full: "up, 8 streams: 1.25× worse than pasta (19.7
// vs 24.7 Gbit/s)".
func (s standing) String() string {
	times, word := s.Times, "better"
	if times < 1 {
		times, word = 1/times, "worse"
	}
	if s.Unit == unitYesNo {
		return fmt.Sprintf("%s: %s, with %s %s", s.Label, valueText(s.Own), s.Peer.Subject, valueText(s.Peer))
	}
	return fmt.Sprintf("%s: %s× %s than %s (%s vs %s %s)", s.Label, number(times), word, s.Peer.Subject,
		number(s.Own.Summary.Median), number(s.Peer.Summary.Median), s.Unit)
}

// Doubt says why an unclear standing is unclear.
func (s standing) Doubt() string {
	if s.Own.Summary.N < 2 || s.Peer.Summary.N < 2 {
		return "measured once"
	}
	return "repeats overlap"
}
