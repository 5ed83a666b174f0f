// SPDX-License-Identifier: Apache-2.0

// Manpages writes the man pages of the commands whose help text says all there is to
// say: docs/man/slipway-COMMAND.1 from testdata/COMMAND-help.txt, the text that
// `slipway COMMAND --help` prints and that a test holds it to. What a page has besides,
// such as examples, is in extra/COMMAND.mdoc. The other pages, which are named in
// byHand, are written by hand. It is run in the module's root, by `make man`.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Where things are, from the module's root.
const (
	helpDir  = "testdata"
	helpTail = "-help.txt"
	pageDir  = "docs/man"
	extraDir = "scripts/manpages/extra"
)

// date is that of the pages (mdoc(7), Dd): when their form last changed.
const date = "November 25, 2026"

// byHand are the commands whose pages are written by hand.
var byHand = []string{"attach", "doctor", "pasta", "ports", "slirp4netns"}

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "manpages:", err)
		os.Exit(1)
	}
}

// run writes all pages below the root.
func run(root string) error {
	pages, err := generate(root)
	if err != nil {
		return err
	}
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(root, pageDir, name), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the pages by the names of their files.
func generate(root string) (map[string][]byte, error) {
	main, err := os.ReadFile(filepath.Join(root, helpDir, "help.txt"))
	if err != nil {
		return nil, err
	}
	pages := map[string][]byte{}
	for name, summary := range summaries(string(main)) {
		if slices.Contains(byHand, name) {
			continue
		}
		help, err := os.ReadFile(filepath.Join(root, helpDir, name+helpTail))
		if errors.Is(err, fs.ErrNotExist) && name == "version" {
			continue // it has nothing to tell
		}
		if err != nil {
			return nil, err
		}
		extra, err := os.ReadFile(filepath.Join(root, extraDir, name+".mdoc"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		p, err := parse(string(help))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		p.name, p.summary = name, summary
		pages["slipway-"+name+".1"] = p.mdoc(extra)
	}
	return pages, nil
}

// summaries returns what the main help text says of each command.
func summaries(help string) map[string]string {
	all := map[string]string{}
	_, list, _ := strings.Cut(help, "Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		name, summary, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok {
			all[name] = strings.TrimSpace(summary)
		}
	}
	return all
}

// A page is what a help text says.
type page struct {
	name, summary string
	synopsis      []string // the words behind "slipway", one for each way to call it
	about         []string // paragraphs
	flags         []flag
}

// A flag is a flag's line.
type flag struct{ names, arg, text string }

// parse reads a help text.
func parse(help string) (page, error) {
	var p page
	usage, rest, ok := strings.Cut(help, "\n\n")
	words, isUsage := strings.CutPrefix(usage, "Usage: slipway ")
	if !ok || !isUsage {
		return p, errors.New("does not begin with its usage")
	}
	for _, way := range strings.FieldsFunc(words, func(r rune) bool { return r == '\n' }) {
		for _, one := range splitWays(way) {
			p.synopsis = append(p.synopsis, strings.TrimPrefix(strings.TrimSpace(one), "slipway "))
		}
	}
	about, flags, _ := strings.Cut(rest, "\nFlags:\n")
	for par := range strings.SplitSeq(strings.TrimSpace(about), "\n\n") {
		p.about = append(p.about, par)
	}
	for line := range strings.Lines(flags) {
		if line = strings.TrimSpace(line); line != "" {
			p.flags = append(p.flags, parseFlag(line))
		}
	}
	return p, nil
}

// splitWays splits what " or " or " | " puts between two whole command lines.
func splitWays(s string) []string {
	name, _, _ := strings.Cut(s, " ")
	for _, between := range []string{"  or  ", " | "} {
		if first, second, ok := strings.Cut(s, between+name+" "); ok {
			return []string{first, name + " " + second}
		}
	}
	return []string{s}
}

// parseFlag reads "-f, --force[=true|false]   text" and "--time SECONDS   text".
func parseFlag(line string) flag {
	head, text, _ := strings.Cut(line, "   ")
	names, arg := strings.TrimSuffix(head, "[=true|false]"), ""
	if i := strings.LastIndex(names, "--"); i >= 0 {
		if name, a, ok := strings.Cut(names[i:], " "); ok {
			names, arg = names[:i]+name, a
		}
	}
	return flag{names: names, arg: arg, text: strings.TrimSpace(text)}
}

// mdoc is the page in the language of mdoc(7).
func (p page) mdoc(extra []byte) []byte {
	var b bytes.Buffer
	title := "slipway-" + p.name
	fmt.Fprintf(&b, ".\\\" SPDX-License-Identifier: Apache-2.0\n.\\\" Made by scripts/manpages of the help text: run make man.\n")
	fmt.Fprintf(&b, ".Dd %s\n.Dt %s 1\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s\n.Sh SYNOPSIS\n", date, strings.ToUpper(title), title, escape(p.summary))
	for i, s := range p.synopsis {
		if i > 0 {
			b.WriteString(".Pp\n")
		}
		fmt.Fprintf(&b, ".Li slipway %s\n", escapeWords(s))
	}
	b.WriteString(".Sh DESCRIPTION\n")
	for i, par := range p.about {
		if i > 0 {
			b.WriteString(".Pp\n")
		}
		writeText(&b, par)
	}
	if len(p.flags) > 0 {
		b.WriteString(".Pp\nThe flags are:\n.Bl -tag -width Ds\n")
		for _, f := range p.flags {
			b.WriteString(".It ")
			for i, n := range strings.Split(f.names, ", ") {
				if i > 0 {
					b.WriteString(" , ")
				}
				b.WriteString("Fl " + strings.TrimPrefix(n, "-"))
			}
			if f.arg != "" {
				b.WriteString(" Ar " + escapeWords(f.arg))
			}
			b.WriteByte('\n')
			writeText(&b, sentence(f.text))
		}
		b.WriteString(".El\n")
	}
	if !bytes.Contains(extra, []byte(".Sh EXIT STATUS")) {
		b.WriteString(".Sh EXIT STATUS\n0 if all went well, 1 after a failure, which one line on standard error describes, 2 if\nthe command line was wrong.\n")
	}
	b.Write(extra)
	if !bytes.Contains(extra, []byte(".Sh SEE ALSO")) {
		b.WriteString(".Sh SEE ALSO\n.Xr slipway 1\n")
	}
	return b.Bytes()
}

// sentence makes a flag's text one.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// writeText writes text, each sentence on a line of its own as mdoc wants it.
func writeText(b *bytes.Buffer, text string) {
	text = strings.Join(strings.Fields(text), " ")
	for text != "" {
		line, rest := text, ""
		if i := strings.Index(text, ". "); i >= 0 {
			line, rest = text[:i+1], text[i+2:]
		}
		b.WriteString(escape(line) + "\n")
		text = rest
	}
}

// escape keeps text from being taken for a request of roff(7).
func escape(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

// escapeWords keeps the words of a macro's line from being taken for macros.
func escapeWords(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = `\&` + strings.ReplaceAll(w, `\`, `\e`)
	}
	return strings.Join(words, " ")
}
