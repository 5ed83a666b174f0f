// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// What slipway is to hold against other engines. Absolute times are the machine's, so
// each that is asked for has a ratio to go by instead.
const (
	barStart  = 10  // ms, of a container with a network
	barBwrap  = 2.5 // or so many times what bwrap takes, which does the least
	barPodman = 10  // podman takes so many times as long, or more
)

// A bar is something that slipway is to hold.
type bar struct {
	Name string
	Got  string
	Want string
	OK   bool
	// Unknown says why nobody can tell whether it is held; empty where one can.
	Unknown string
}

// mark is the bar's verdict in a word.
func (b bar) mark() string {
	switch {
	case b.Unknown != "":
		return "unknown"
	case b.OK:
		return "yes"
	}
	return "no"
}

// text says what was found, and what is wanted.
func (b bar) text() string {
	found := b.Got
	if b.Unknown != "" {
		found = b.Unknown
	}
	return fmt.Sprintf("%s: %s; want %s", b.Name, found, b.Want)
}

// String says the bar in a line.
func (b bar) String() string { return b.mark() + ": " + b.text() }

// launchBars returns the bars as the first slipway of the run holds them; none where
// there was none, or where no container engines were measured.
func launchBars(r *Report) []bar {
	if !isLaunch(r) {
		return nil
	}
	own := ""
	for _, s := range r.Plan.Subjects {
		if s.Tool == ownTool && own == "" {
			own = s.Name
		}
	}
	if own == "" {
		return nil
	}
	with, without := launchStart{network: true}.Name(), launchStart{}.Name()
	mine := r.cellOf(own, with, "time")
	pulled, again := launchPull{}.Name(), launchKeepID{}.Name()
	return []bar{
		mine.against(r.cellOf("bwrap", without, "time"), "start with a network, beside bwrap without", barBwrap, true),
		mine.against(r.cellOf("crun", without, "time"), "start with a network, beside crun without", 1, false),
		mine.against(r.cellOf("podman", with, "time"), "start with a network, beside podman", 1.0/barPodman, false),
		r.cellOf(own, pulled, "time").against(r.cellOf("podman", pulled, "time"), "pull, beside podman", 1, false),
		r.cellOf(own, pulled, "time").against(r.cellOf("umoci", pulled, "time"), "pull, beside skopeo and umoci", 1, false),
		r.cellOf(own, pulled, "disk").against(r.cellOf("podman", pulled, "disk"), "disk of the pulled image, beside podman", 1+evenWithin, false),
		r.cellOf(own, again, "first").against(r.cellOf("podman", again, "first"), "first run with keep-id, beside podman", 1, false),
		r.cellOf(own, again, "first_disk").against(r.cellOf("podman", again, "first_disk"), "disk that this takes, beside podman", 1, false),
	}
}

// cellOf returns the cell of the first subject of the tool, or one that says that there
// is none. A slipway is found by its name.
func (r *Report) cellOf(subject, name, metric string) Cell {
	kind := toolsOf(r.Plan)
	for _, c := range r.Cells {
		if (c.Subject == subject || kind[c.Subject] == subject && subject != ownTool) && c.Row.Case == name && c.Row.Metric.Name == metric {
			return c
		}
	}
	return Cell{Subject: subject, Missing: "not measured in this run"}
}

// against makes the bar that c is at most so many times the peer; where absolute is
// set, barStart will do as well.
func (c Cell) against(peer Cell, name string, times float64, absolute bool) bar {
	b := bar{Name: name, Want: fmt.Sprintf("at most %s×", number(times))}
	if absolute {
		b.Want += fmt.Sprintf(", or %d ms", barStart)
	}
	for _, one := range []Cell{c, peer} {
		switch {
		case one.Missing != "":
			b.Unknown = one.Subject + " is missing: " + one.Missing
		case one.Doubtful():
			b.Unknown = one.Subject + " is doubtful: " + strings.Join(one.Flags, "; ")
		default:
			continue
		}
		return b
	}
	got := c.Summary.Median / peer.Summary.Median
	b.Got = fmt.Sprintf("%s× (%s vs %s %s)", number(got), number(c.Summary.Median), number(peer.Summary.Median), c.Row.Metric.Unit)
	b.OK = got <= times || absolute && c.Summary.Median <= barStart
	return b
}

// printBars writes the bars.
func printBars(b *strings.Builder, r *Report, s screen) {
	bars := launchBars(r)
	if len(bars) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", s.paint(strong, "── What slipway is to hold"))
	for _, one := range bars {
		st := good
		switch one.mark() {
		case "no":
			st = bad
		case "unknown":
			st = doubt
		}
		s.wrapIn(b, st, fmt.Sprintf("%-8s ", one.mark()), visible(one.text()))
	}
}

// writeBars writes the bars as a list in Markdown.
func writeBars(b *strings.Builder, r *Report) {
	for _, one := range launchBars(r) {
		fmt.Fprintf(b, "- %s\n", markdown(one.String()))
	}
}
