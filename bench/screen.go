// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Widths of what text is printed on, in columns.
const (
	defaultWidth = 120 // where nothing says otherwise
	minWidth     = 60  // below, lines are wrapped by the terminal
	maxWidth     = 200
)

// A screen is what text is printed on.
type screen struct {
	width int // columns
	color bool
	tty   bool
}

// screenOf finds out about w. The width is that of the terminal, else COLUMNS; there
// is colour on a terminal that has it, unless NO_COLOR is set (no-color.org).
func screenOf(w io.Writer, getenv func(string) string) screen {
	s := screen{width: defaultWidth}
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil {
		s.width = n
	}
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			s.tty = true
			if size.Col > 0 {
				s.width = int(size.Col)
			}
		}
	}
	s.color = s.tty && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	s.width = min(max(s.width, minWidth), maxWidth)
	return s
}

// A style is how text stands out, as the parameters of ECMA-48 SGR.
type style string

// The styles in use; the colours are those that terminals let their users choose.
const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	good   style = "32"
	bad    style = "31"
	doubt  style = "33"
	strong style = "1;36"
)

// paint returns the text in the style.
func (s screen) paint(st style, text string) string {
	if !s.color || st == plain || text == "" {
		return text
	}
	return "\x1b[" + string(st) + "m" + text + "\x1b[0m"
}

// wrap prints text after a head and breaks its lines at spaces, so that they stand
// below each other.
func (s screen) wrap(b *strings.Builder, head, text string) { s.wrapIn(b, plain, head, text) }

// wrapIn is wrap in a style.
func (s screen) wrapIn(b *strings.Builder, st style, head, text string) {
	indent := utf8.RuneCountInString(head)
	room := max(s.width-indent, minWidth/3)
	for i, line := range breakLines(text, room) {
		if i > 0 {
			head = strings.Repeat(" ", indent)
		}
		b.WriteString(strings.TrimRight(s.paint(st, head+line), " ") + "\n")
	}
}

// breakLines breaks text at spaces into lines of at most width columns. A word that
// is too long is cut, after a mark if there is one. There is at least one line.
func breakLines(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		for utf8.RuneCountInString(word) > width {
			if line != "" {
				lines = append(lines, line)
				line = ""
			}
			r := []rune(word)
			at := width
			if i := strings.LastIndexAny(string(r[:width]), "-/=,"); i > 0 {
				at = utf8.RuneCountInString(string(r[:width])[:i+1])
			}
			lines = append(lines, string(r[:at]))
			word = string(r[at:])
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}

// visible replaces what a terminal would obey rather than show: the texts of a
// report may come from anywhere.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		if unicode.IsSpace(r) {
			return ' '
		}
		return unicode.ReplacementChar
	}, s)
}
