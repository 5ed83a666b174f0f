// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// printReport writes the drawing, what was measured on what, the tables, their notes
// and the verdict, to fit what w is.
func printReport(w io.Writer, r *Report) error {
	_, err := io.WriteString(w, reportText(r, screenOf(w, os.Getenv)))
	return err
}

// reportText is the report as it looks on the screen.
func reportText(r *Report, s screen) string {
	var b strings.Builder
	if !isLaunch(r) {
		b.WriteString(drawing)
		b.WriteByte('\n')
	}
	printHead(&b, r, s)
	if r.LeftOut > 0 {
		b.WriteByte('\n')
		s.wrap(&b, "", fmt.Sprintf("%d repeats were left out to stay within %s; such cells show no lowest and highest.", r.LeftOut, r.Plan.Limit))
	}
	if text := r.Plan.forgone(); text != "" {
		b.WriteByte('\n')
		s.wrap(&b, "", text+".")
	}
	if r.Interrupted {
		fmt.Fprintf(&b, "\n%s the tables show what was measured until then.\n", s.paint(doubt, "INTERRUPTED:"))
	}
	b.WriteByte('\n')
	s.wrap(&b, "", "Median (lowest–highest); ↑ more is better, ↓ less is; ×d: multiple of direct; ×p: multiple of the best other tool; "+
		"[1]: see the notes; n/a: does not apply, since there is no "+kindWord(isLaunch(r))+" or the subject is limited to other cases.")
	t := newTable(&b, s, r.Plan.Subjects)
	t.print(newView(r, false))
	if len(t.notes) > 0 {
		fmt.Fprintf(&b, "\n%s\n", s.paint(strong, "── Notes"))
	}
	for i, n := range t.notes {
		s.wrap(&b, fmt.Sprintf("%4s ", fmt.Sprintf("[%d]", i+1)), visible(n))
	}
	printStandings(&b, r, s)
	printBars(&b, r, s)
	return b.String()
}

// printHead writes what was measured on what.
func printHead(b *strings.Builder, r *Report, s screen) {
	m := r.Machine
	width := len("machine")
	for _, sub := range r.Plan.Subjects {
		width = max(width, len([]rune(visible(sub.Name))))
	}
	head := func(name, text string) {
		s.wrap(b, fmt.Sprintf("%-*s  ", width, visible(name)), visible(text))
	}
	head("machine", fmt.Sprintf("%s, %s (%s), %s, %s, Linux %s", m.CPU, plural(m.Cores, "core"), m.Allowed, m.Memory, m.OS, m.Kernel))
	if !isLaunch(r) {
		head("CPUs", m.placement(r.Plan.Pin))
	}
	for _, w := range m.Warnings {
		head("WARNING", w)
	}
	head("run", fmt.Sprintf("%s, took %s, load %s; %s", r.Began.Format("2006-01-02 15:04"), r.Took, strings.Join(m.Load, " → "), r.Plan.method()))
	for _, sub := range r.Plan.Subjects {
		about := sub.Version
		if sub.Tool == directName {
			about = r.Plan.directAbout()
		}
		if sub.Missing != "" {
			about = "MISSING: " + sub.Missing
		}
		head(sub.Name, about)
		if command := firstCommand(r, sub.Name); command != "" {
			head("", command)
		}
		if proof := proofOf(r, sub.Name); proof != "" {
			head("", proof)
		}
		if has := seenOf(r, sub.Name); has != "" {
			head("", has)
		}
	}
}

// printStandings writes where slipway is better and worse than the best other tool.
func printStandings(b *strings.Builder, r *Report, s screen) {
	for _, j := range standingsOf(r) {
		t := j.Total()
		b.WriteByte('\n')
		s.wrapIn(b, strong, "── ", fmt.Sprintf("%s beside the best other tool: %s", visible(j.Subject), t.Counts()))
		width := 0
		for _, ch := range j.Chapters {
			width = max(width, len([]rune(ch.Title)))
		}
		for _, ch := range j.Chapters {
			text := ch.Counts()
			if best, ok := ch.Best(); ok {
				text += "; best: " + best.String()
			}
			s.wrap(b, fmt.Sprintf("%-*s  ", width, ch.Title), visible(text))
			for _, st := range ch.Worse {
				s.wrapIn(b, bad, strings.Repeat(" ", width+2)+"▼ ", visible(st.String()))
			}
			for _, st := range ch.Unclear {
				s.wrap(b, strings.Repeat(" ", width+2)+"~ ", visible(st.String()+"; "+st.Doubt()))
			}
		}
	}
}

// number shows about three significant digits. The bounds are those from which on
// rounding makes one more digit before the point.
func number(v float64) string {
	switch {
	case v >= 99.95 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.0995:
		return fmt.Sprintf("%.2f", v)
	case v >= 0.00995 || v < 0:
		return fmt.Sprintf("%.3f", v)
	default:
		return fmt.Sprintf("%.2g", v)
	}
}

// plural counts things.
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// firstCommand returns the first command line that the subject ran with.
func firstCommand(r *Report, subject string) string {
	for _, rec := range r.Records {
		if rec.Subject == subject && len(rec.Command) > 0 {
			return strings.Join(rec.Command, " ")
		}
	}
	return ""
}
