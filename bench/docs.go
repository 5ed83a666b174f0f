// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"text/template"
)

// docsTemplate is the page of all results: the method in words, and where the tables
// go.
//
//go:embed benchmarks.md.tmpl
var docsTemplate string

// A docsData is what the template shows; all texts are escaped already.
type docsData struct {
	Began, Command, Drawing string
	Facts, Subjects         []fact
	Tables, Standings, Bars string
	Launch                  *docsData // of container engines, nil where none were measured
}

// docsPage returns the page of all results, in Markdown: those of network helpers and,
// where there are some behind them, of container engines.
func docsPage(all []*Report) (string, error) {
	var d *docsData
	for _, r := range all {
		one, err := newDocsData(r)
		switch {
		case err != nil:
			return "", err
		case d == nil:
			d = one
		default:
			d.Launch = one
		}
	}
	t, err := template.New("docs").Parse(docsTemplate)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, d); err != nil {
		return "", err
	}
	return b.String(), nil
}

// newDocsData collects what the page shows of one run.
func newDocsData(r *Report) (*docsData, error) {
	if r.Interrupted {
		return nil, errors.New("these results are of an interrupted run: measure again")
	}
	d := &docsData{
		Began:   r.Began.Format("2006-01-02"),
		Command: strings.ReplaceAll(commandLine(r), "`", "'"), Drawing: strings.Trim(drawing, "\n"),
	}
	for _, f := range machineFacts(r) {
		d.Facts = append(d.Facts, fact{f.Name, markdown(f.Text)})
	}
	for _, s := range r.Plan.Subjects {
		text := markdown(r.Plan.subjectAbout(s))
		if c := commandsOf(r, s.Name); len(c) > 0 {
			text += ": `" + strings.ReplaceAll(c[0], "`", "'") + "`"
		}
		if proof := proofOf(r, s.Name); proof != "" {
			text += "; " + markdown(proof)
		}
		if has := seenOf(r, s.Name); has != "" {
			text += "; " + markdown(has)
		}
		d.Subjects = append(d.Subjects, fact{markdown(s.Name), text})
	}
	d.Tables = docsTables(r)
	d.Standings = docsStandings(r)
	var bars strings.Builder
	writeBars(&bars, r)
	d.Bars = strings.TrimSuffix(bars.String(), "\n")
	return d, nil
}

// docsTables writes every chapter with every row.
func docsTables(r *Report) string {
	var (
		b    strings.Builder
		n    notes
		tool = toolsOf(r.Plan)
	)
	for _, part := range newView(r, true).Parts {
		fmt.Fprintf(&b, "### %s\n\n%s\n", part.Title, part.About)
		conditions := ""
		for _, block := range part.Blocks {
			if block.Conditions != conditions {
				conditions = block.Conditions
				fmt.Fprintf(&b, "\n%s:\n", markdown(conditions))
			}
			fmt.Fprintf(&b, "\n| %s %s |", markdown(block.Unit), block.direction())
			for _, s := range r.Plan.Subjects {
				fmt.Fprintf(&b, " %s |", markdown(s.Name))
			}
			b.WriteString("\n|---|" + strings.Repeat("--:|", len(r.Plan.Subjects)) + "\n")
			for _, row := range block.Rows {
				fmt.Fprintf(&b, "| %s |", markdown(row.Label))
				for _, c := range row.Cells {
					fmt.Fprintf(&b, " %s |", docsCell(c, tool, &n))
				}
				b.WriteByte('\n')
			}
		}
		b.WriteByte('\n')
	}
	if len(n) > 0 {
		b.WriteString("### Notes\n\n")
	}
	writeNotes(&b, n)
	return strings.TrimRight(b.String(), "\n")
}

// docsCell is the cell's value with its range and its ratio to the best other tool.
func docsCell(c Cell, tool map[string]string, n *notes) string {
	text := valueText(c)
	if r := rangeText(c); r != "" {
		text += " (" + r + ")"
	}
	if refs := n.refs(c); refs != "" {
		text += " " + refs
	}
	if tool[c.Subject] == ownTool && c.BestPeer != 0 && c.Row.Metric.Unit != unitYesNo {
		text += fmt.Sprintf(" **%s×p**", number(c.BestPeer))
	}
	return text
}

// docsStandings lists where slipway is better and where it is worse.
func docsStandings(r *Report) string {
	var b strings.Builder
	for _, s := range standingsOf(r) {
		t := s.Total()
		fmt.Fprintf(&b, "%s beside the best other tool in each row: %s.\n\n", markdown(s.Subject), t.Counts())
		for _, list := range []struct {
			title string
			rows  []standing
		}{{"Worse", t.Worse}, {"Unclear", t.Unclear}, {"Better", t.Better}} {
			if len(list.rows) == 0 {
				continue
			}
			fmt.Fprintf(&b, "%s:\n\n", list.title)
			for _, row := range list.rows {
				fmt.Fprintf(&b, "- %s, %s\n", row.Chapter, markdown(row.String()))
			}
			b.WriteByte('\n')
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
