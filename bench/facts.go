// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// machineFacts are what the reports say of the machine and the run.
func machineFacts(r *Report) []fact {
	m, p := r.Machine, r.Plan
	facts := []fact{
		{"machine", fmt.Sprintf("%s, %d cores (%s), %s", m.CPU, m.Cores, m.Allowed, m.Memory)},
		{"system", fmt.Sprintf("%s, Linux %s, bench built by %s", m.OS, m.Kernel, strings.TrimSpace(m.Go+" "+m.Build))},
		{"run", fmt.Sprintf("%s, took %s, load %s", r.Began.Format("2006-01-02 15:04 MST"), r.Took, strings.Join(m.Load, " → "))},
	}
	if isLaunch(r) {
		facts = append(facts, fact{"method", "up to " + p.method()})
	} else {
		facts = append(facts, fact{"method", fmt.Sprintf("up to %s; congestion control %s", p.method(), strings.Join(p.Congestion, ", "))})
	}
	if len(m.Affinity) > 0 {
		facts = append(facts, fact{"CPUs", m.placement(p.Pin)})
	}
	for _, w := range m.Warnings {
		facts = append(facts, fact{"warning", w})
	}
	for _, g := range p.Gaps {
		facts = append(facts, fact{"not measured", strings.TrimSpace(g.Congestion+" "+g.Cases) + ": " + g.Why})
	}
	var sysctls []string
	for _, k := range slices.Sorted(maps.Keys(m.Sysctls)) {
		sysctls = append(sysctls, k+"="+cmp.Or(m.Sysctls[k], "unknown"))
	}
	if len(sysctls) > 0 {
		facts = append(facts, fact{"sysctls", strings.Join(sysctls, ", ")})
	}
	if text := p.forgone(); text != "" {
		facts = append(facts, fact{"quick", text})
	}
	if r.LeftOut > 0 {
		facts = append(facts, fact{"left out", fmt.Sprintf("%d repeats, to stay within %s", r.LeftOut, p.Limit)})
	}
	if r.Interrupted {
		facts = append(facts, fact{"interrupted", "what is here was measured until then"})
	}
	return facts
}

// method says how often and how long is measured.
func (p Plan) method() string {
	if l := p.Launch; l != nil {
		return fmt.Sprintf("%s taking turns, %d of pulls and keep-id; one container at a time; an image of %d files and %d MB; each engine with a place of its own in %s", plural(p.Repeat, "repeat"), min(p.Repeat, pullRounds), l.Files, l.Megabytes, l.Dir)
	}
	return fmt.Sprintf("%s taking turns, window %s after %s of warm-up (bulk data: %s)", plural(p.Repeat, "repeat"), p.Window, p.Warmup, p.bulkWarmup())
}

// What differs between two command lines of the same kind.
var (
	tempPath  = regexp.MustCompile(`/tmp/[^/ ]+/`)
	procPath  = regexp.MustCompile(`/proc/\d+/`)
	targetPID = regexp.MustCompile(` \d{2,}( tap0)?$`)
)

// commandsOf returns the command lines that the subject ran with, those that differ
// in process ids and temporary names only once. The results file has each.
func commandsOf(r *Report, subject string) []string {
	var all []string
	for _, rec := range r.Records {
		if rec.Subject != subject || len(rec.Command) == 0 {
			continue
		}
		s := strings.Join(rec.Command, " ")
		s = tempPath.ReplaceAllString(s, "/tmp/…/")
		s = procPath.ReplaceAllString(s, "/proc/PID/")
		s = targetPID.ReplaceAllString(s, " PID$1")
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// proofOf sums up who was seen to carry the subject's bytes; empty where nobody was
// asked.
func proofOf(r *Report, subject string) string {
	var who, why []string
	asked, proven, paths := 0, 0, map[string]int{}
	for _, rec := range r.Records {
		p := rec.Proof
		if rec.Subject != subject || p == nil {
			continue
		}
		asked++
		if p.Failed != "" {
			if !slices.Contains(why, p.Failed) {
				why = append(why, p.Failed)
			}
			continue
		}
		proven++
		if name := cmp.Or(p.Exe, p.Comm); !slices.Contains(who, name) {
			who = append(who, name)
		}
		for _, path := range p.Paths {
			paths[path]++
		}
	}
	if asked == 0 {
		return ""
	}
	text := fmt.Sprintf("seen to hold the flow's socket in %d of %s", proven, plural(asked, "run"))
	if len(who) > 0 {
		text += ": " + strings.Join(who, ", ")
	}
	for i, path := range slices.Sorted(maps.Keys(paths)) {
		text += []string{"; its flows were ", ", "}[min(i, 1)] + fmt.Sprintf("%s in %d", path, paths[path])
	}
	if len(why) > 0 {
		text += "; else: " + strings.Join(why, "; ")
	}
	return text
}

// commandLine is how the run was started, for someone who wants to repeat it in a
// shell.
func commandLine(r *Report) string {
	words := []string{"go run ./bench"}
	for _, arg := range r.CommandLine[1:] {
		words = append(words, shellWord(arg))
	}
	return strings.Join(words, " ")
}

// shellSafe matches words that a shell takes as they are.
var shellSafe = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellWord is the text as one word of a shell's command line.
func shellWord(s string) string {
	if shellSafe.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
