// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printReport writes the drawing, what was measured on what, the table and its
// notes.
func printReport(w io.Writer, r *Report) error {
	var b strings.Builder
	b.WriteString(drawing)
	m := r.Machine
	width := len("machine")
	for _, s := range r.Plan.Subjects {
		width = max(width, len(s.Name))
	}
	head := func(name, text string) { fmt.Fprintf(&b, "%-*s  %s\n", width, name, text) }
	b.WriteByte('\n')
	head("machine", fmt.Sprintf("%s, %s (%s), %s, %s, Linux %s", m.CPU, plural(m.Cores, "core"), m.Allowed, m.Memory, m.OS, m.Kernel))
	head("CPUs", m.placement(r.Plan.Pin))
	for _, w := range m.Warnings {
		head("WARNING", w)
	}
	head("run", fmt.Sprintf("%s, took %s, load %s; %s taking turns, window %s after %s of warm-up",
		r.Began.Format("2006-01-02 15:04"), r.Took, strings.Join(m.Load, " → "), plural(r.Plan.Repeat, "repeat"), r.Plan.Window, r.Plan.Warmup))
	for _, s := range r.Plan.Subjects {
		about := s.Version
		if s.Tool == directName {
			about = "no helper: what the machine can do"
		}
		if s.Missing != "" {
			about = "MISSING: " + s.Missing
		}
		head(s.Name, about)
		if command := firstCommand(r, s.Name); command != "" {
			head("", command)
		}
	}
	if r.LeftOut > 0 {
		fmt.Fprintf(&b, "\n%d repeats were left out to stay within %s; such cells show no lowest and highest.\n", r.LeftOut, r.Plan.Limit)
	}
	if r.Interrupted {
		b.WriteString("\nINTERRUPTED: the table shows what was measured until then.\n")
	}
	b.WriteString("\nmedian (lowest–highest); ×d: multiple of direct; ×p: multiple of the best other tool\n\n")
	notes := printTable(&b, r)
	for i, n := range notes {
		fmt.Fprintf(&b, "[%d] %s\n", i+1, n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printTable writes one line per row and returns the notes it refers to.
func printTable(b *strings.Builder, r *Report) []string {
	var notes []string
	note := func(text string) string {
		text = strings.Join(strings.Fields(text), " ")
		for i, n := range notes {
			if n == text {
				return fmt.Sprintf("[%d]", i+1)
			}
		}
		notes = append(notes, text)
		return fmt.Sprintf("[%d]", len(notes))
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "case\tunit")
	for _, s := range r.Plan.Subjects {
		fmt.Fprintf(t, "\t%s", s.Name)
	}
	fmt.Fprintln(t)
	conditions := ""
	for i, c := range r.Cells {
		row := c.Row
		if row.Metric.Detail {
			continue
		}
		if now := fmt.Sprintf("MTU %d, IPv%d, %s", row.MTU, row.Family, row.Congestion); now != conditions {
			conditions = now
			fmt.Fprintf(t, "── %s%s\n", now, strings.Repeat("\t", 1+len(r.Plan.Subjects)))
		}
		if i == 0 || r.Cells[i-1].Row != row {
			fmt.Fprintf(t, "%s\t%s", row.Case, row.Metric.Name+" "+row.Metric.Unit)
		}
		fmt.Fprintf(t, "\t%s", cellText(c, note))
		if i == len(r.Cells)-1 || r.Cells[i+1].Row != row {
			fmt.Fprintln(t)
		}
	}
	t.Flush()
	return notes
}

// cellText is what the table shows of the cell.
func cellText(c Cell, note func(string) string) string {
	if c.Missing == notApplicable {
		return "–"
	}
	if c.Missing != "" {
		return "missing" + note(c.Missing)
	}
	if c.Row.Metric.Unit == unitYesNo {
		return yesNo(c.Summary.Median)
	}
	s := number(c.Summary.Median)
	if c.Summary.N > 1 {
		s += fmt.Sprintf(" (%s–%s)", number(c.Summary.Min), number(c.Summary.Max))
	}
	var ratios []string
	if c.BestPeer != 0 || (c.Direct != 0 && c.Direct != 1) {
		if c.Direct != 0 {
			ratios = append(ratios, fmt.Sprintf("%.2f×d", c.Direct))
		}
		if c.BestPeer != 0 {
			ratios = append(ratios, fmt.Sprintf("%.2f×p", c.BestPeer))
		}
		s += " " + strings.Join(ratios, " ")
	}
	for _, f := range c.Flags {
		s += " !" + note(f)
	}
	return s
}

// plural counts things.
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// yesNo shows the median of answers: 1 for yes.
func yesNo(v float64) string {
	switch v {
	case 1:
		return "yes"
	case 0:
		return "no"
	default:
		return "at times"
	}
}

// number shows about three significant digits.
func number(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
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
