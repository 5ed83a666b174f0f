// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Widths of columns.
const (
	wideColumn   = 22 // holds a value with its range
	narrowColumn = 14 // holds a value, or a range, or both ratios
	wideLabel    = 28
	narrowLabel  = 19
)

// A table prints a view's blocks on a screen.
type table struct {
	screen
	b        *strings.Builder
	subjects []Subject
	notes    notes
	label    int // width of the first column
	column   int // width of the others
	kind     map[string]string
}

// newTable chooses the columns' widths: as wide as there is room for, and no wider.
func newTable(b *strings.Builder, s screen, subjects []Subject) *table {
	t := &table{screen: s, b: b, subjects: subjects, label: wideLabel, kind: toolsOf(Plan{Subjects: subjects})}
	n := max(len(subjects), 1)
	t.column = min((t.width-t.label)/n, wideColumn+2)
	if t.column < wideColumn {
		t.label = narrowLabel
		t.column = max((t.width-t.label)/n, narrowColumn)
	}
	return t
}

// print prints all of the view.
func (t *table) print(v view) {
	for _, part := range v.Parts {
		conditions := ""
		for _, b := range part.Blocks {
			if b.Conditions != conditions {
				conditions = b.Conditions
				t.heading(part.Title, conditions)
			}
			t.block(b)
		}
	}
}

func (t *table) heading(title, conditions string) {
	text := fmt.Sprintf("── %s ── %s ", title, visible(conditions))
	rule := strings.Repeat("─", max(t.width-utf8.RuneCountInString(text), 0))
	fmt.Fprintf(t.b, "\n%s\n", t.paint(strong, text+rule))
}

// block prints one table, in several parts where the subjects do not fit beside
// each other.
func (t *table) block(b viewBlock) {
	each := max((t.width-t.label)/t.column, 1)
	for from := 0; from < len(t.subjects); from += each {
		to := min(from+each, len(t.subjects))
		head := []cellLines{t.fold(bold, b.direction()+" "+visible(b.Unit), t.label-2)}
		for _, s := range t.subjects[from:to] {
			head = append(head, t.fold(bold, visible(s.Name), t.column-1))
		}
		t.row(head)
		for _, row := range b.Rows {
			cells := []cellLines{t.fold(plain, visible(row.Label), t.label-2)}
			best := bestPeer(row.Cells, t.kind).Subject
			for _, c := range row.Cells[from:to] {
				cells = append(cells, t.cell(c, best))
			}
			t.row(cells)
		}
	}
}

// A piece of text in one style.
type piece struct {
	style style
	text  string
}

// cellLines are the lines of one field of the table.
type cellLines []piece

func (t *table) fold(st style, text string, width int) cellLines {
	var lines cellLines
	for _, l := range breakLines(text, width) {
		lines = append(lines, piece{st, l})
	}
	return lines
}

// cell returns the lines of a cell: its value and references, its range where the
// columns are narrow, its ratios.
func (t *table) cell(c Cell, best string) cellLines {
	value := valueText(c)
	st := plain
	switch {
	case !c.Expected():
		return cellLines{{dim, value}}
	case c.Doubtful():
		st = doubt
	case c.Subject == best || t.kind[c.Subject] == ownTool:
		st = bold
	}
	if r := rangeText(c); r != "" && t.column >= wideColumn {
		value += " (" + r + ")"
	}
	if refs := t.notes.refs(c); refs != "" {
		value += " " + refs
	}
	lines := t.fold(st, value, t.column-1)
	if r := rangeText(c); r != "" && t.column < wideColumn {
		lines = append(lines, t.fold(dim, r, t.column-1)...)
	}
	if r := t.ratios(c); r.text != "" {
		lines = append(lines, t.fold(r.style, r.text, t.column-1)...)
	}
	return lines
}

// ratios are the cell's ratios to direct and to the best other tool.
func (t *table) ratios(c Cell) piece {
	st := dim
	if t.kind[c.Subject] == ownTool && c.BestPeer != 0 {
		times := c.BestPeer
		if !c.Row.Metric.Higher {
			times = 1 / times
		}
		switch {
		case times >= 1+evenWithin:
			st = good
		case times <= 1/(1+evenWithin):
			st = bad
		}
	}
	return piece{st, ratiosText(c, t.kind)}
}

// row prints fields beside each other.
func (t *table) row(cells []cellLines) {
	height := 0
	for _, c := range cells {
		height = max(height, len(c))
	}
	for i := range height {
		line, gap := "", 0
		for j, c := range cells {
			width := t.column
			if j == 0 {
				width = t.label
			}
			if i < len(c) {
				line += strings.Repeat(" ", gap) + t.paint(c[i].style, c[i].text)
				gap = max(width-utf8.RuneCountInString(c[i].text), 0)
			} else {
				gap += width
			}
		}
		t.b.WriteString(line + "\n")
	}
}
