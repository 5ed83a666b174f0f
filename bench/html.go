// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/bench/chart"
)

// htmlTemplate is the page. It loads nothing and runs no script.
//
//go:embed report.html.tmpl
var htmlTemplate string

// A page is what the template shows. Its strings are as hostile as the results file
// may be: html/template escapes them; the drawings are escaped by package chart.
type page struct {
	*Report
	Title       string
	Drawing     string
	LightStyle  template.CSS
	DarkStyle   template.CSS
	Machine     []fact
	Subjects    []pageSubject
	Parts       []pagePart
	Standings   []standings
	Notes       []string
	CommandLine string
	Launch      bool   // whether container engines were measured
	Word        string // what the direct path lacks
	Bars        []bar
}

// A fact is a name and what there is to say.
type fact struct{ Name, Text string }

// A pageSubject is a contestant as the legends and the list show it.
type pageSubject struct {
	Subject
	Slot     int
	Mark     string
	About    string
	Proof    string
	Commands []string
}

// A pagePart is a chapter with its drawings and tables.
type pagePart struct {
	chapter
	Figures []figure
	Tables  []pageTable
	Marks   bool // whether some figure has marks
}

// A figure is a drawing; Half says that two stand beside each other.
type figure struct {
	Caption string
	SVG     template.HTML
	Half    bool
	Marks   bool // whether it tells series by marks
}

// A pageTable is a block with the texts of its cells.
type pageTable struct {
	Caption string
	Rows    []pageRow
}

type pageRow struct {
	Label string
	Cells []pageCell
}

// A pageCell is a cell as the page shows it.
type pageCell struct {
	Value, Range, Ratios string
	Refs                 []int // of the notes
	Class                string
}

// writeHTML writes the page into a file.
func writeHTML(path string, r *Report) error {
	b, err := htmlReport(r)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("write the HTML report: %w", err)
	}
	return nil
}

// htmlReport returns the page.
func htmlReport(r *Report) ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{"inc": func(i int) int { return i + 1 }}).Parse(htmlTemplate)
	if err != nil {
		return nil, err
	}
	p, err := newPage(r)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func newPage(r *Report) (page, error) {
	p := page{
		Report: r, Title: "slipway bench, " + r.Began.Format("2006-01-02"), Drawing: strings.Trim(drawing, "\n"),
		Machine: machineFacts(r), Standings: standingsOf(r), CommandLine: commandLine(r),
		Launch: isLaunch(r), Word: kindWord(isLaunch(r)), Bars: launchBars(r),
	}
	if p.Launch {
		p.Drawing = ""
	}
	light, dark := chart.Styles()
	p.LightStyle, p.DarkStyle = template.CSS(light), template.CSS(dark) // made by us alone
	slots := subjectSlots(r.Plan.Subjects)
	for i, s := range r.Plan.Subjects {
		p.Subjects = append(p.Subjects, pageSubject{Subject: s, Slot: slots[i], Mark: chart.Mark(slots[i]), About: r.Plan.subjectAbout(s), Proof: cmp.Or(proofOf(r, s.Name), seenOf(r, s.Name)), Commands: commandsOf(r, s.Name)})
	}
	var n notes
	tool := toolsOf(r.Plan)
	for _, part := range newView(r, true).Parts {
		one := pagePart{chapter: part.chapter}
		var err error
		if one.Figures, err = figures(r, part, slots); err != nil {
			return page{}, err
		}
		one.Marks = slices.ContainsFunc(one.Figures, func(f figure) bool { return f.Marks })
		for _, b := range part.Blocks {
			t := pageTable{Caption: b.caption()}
			for _, row := range b.Rows {
				out := pageRow{Label: row.Label}
				best := bestPeer(row.Cells, tool).Subject
				for _, c := range row.Cells {
					out.Cells = append(out.Cells, newPageCell(c, best, tool, &n))
				}
				t.Rows = append(t.Rows, out)
			}
			one.Tables = append(one.Tables, t)
		}
		p.Parts = append(p.Parts, one)
	}
	p.Notes = n
	return p, nil
}

// caption says what the table's numbers are.
func (b viewBlock) caption() string {
	better := "less is better"
	if b.Higher {
		better = "more is better"
	}
	return fmt.Sprintf("%s (%s %s), %s", b.Unit, b.direction(), better, b.Conditions)
}

func newPageCell(c Cell, best string, tool map[string]string, n *notes) pageCell {
	out := pageCell{Value: valueText(c), Range: rangeText(c), Ratios: ratiosText(c, tool), Refs: n.numbers(c)}
	switch {
	case !c.Expected():
		out.Class = "na"
	case c.Doubtful():
		out.Class = "doubt"
	case tool[c.Subject] == ownTool:
		out.Class = "own"
	case c.Subject == best:
		out.Class = "best"
	}
	return out
}

// subjectSlots gives each subject a place in the palette: always the same one to the
// first of each tool, and what is left to the others.
func subjectSlots(subjects []Subject) []int {
	fixed := []string{directName, ownTool, "slirp4netns", "pasta", "rootlesskit", "gvisor-tap-vsock"}
	slots := make([]int, len(subjects))
	var taken [chart.Slots]bool
	var rest []int
	for i, s := range subjects {
		slot := slices.Index(fixed, s.Tool)
		if slot < 0 || taken[slot] {
			rest = append(rest, i)
			continue
		}
		slots[i], taken[slot] = slot, true
	}
	for n, i := range rest {
		// From the end, where the tools of the list are least often found.
		slot := slices.Index(taken[len(fixed):], false)
		if slot >= 0 {
			slot += len(fixed)
		} else if slot = slices.Index(taken[:], false); slot < 0 {
			slot = n % chart.Slots
		}
		slots[i], taken[slot] = slot, true
	}
	return slots
}

// subjectAbout says what the subject is.
func (p Plan) subjectAbout(s Subject) string {
	switch {
	case s.Missing != "":
		return "missing: " + s.Missing
	case s.Tool == directName:
		return p.directAbout()
	case s.Version == "":
		return "version unknown: the run was interrupted"
	}
	return s.Version
}

// toolsOf returns the tools by the subjects' names.
func toolsOf(p Plan) map[string]string {
	all := map[string]string{}
	for _, s := range p.Subjects {
		all[s.Name] = s.Tool
	}
	return all
}
