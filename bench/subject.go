// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Subject is one contestant of a run. Missing says why it takes no part; the
// empty string means that it does.
type Subject struct {
	Name    string   `json:"name"`
	Tool    string   `json:"tool"`
	Path    string   `json:"path,omitempty"`
	Extra   []string `json:"extra,omitempty"` // arguments added to the tool's own
	Cases   string   `json:"cases,omitempty"` // takes part in those only whose name this regular expression matches
	Version string   `json:"version,omitempty"`
	Missing string   `json:"missing,omitempty"`
}

// ParseSubject reads [NAME=]TOOL[@PATH][+ARG…][#CASES], such as "slipway",
// "before=slipway@/tmp/slipway" or "stacked=slipway+--accel=off#^tcp/". Without a name
// the subject is called by all of the rest.
func ParseSubject(s string) (Subject, error) {
	all, cases, _ := strings.Cut(s, "#")
	if _, err := regexp.Compile(cases); err != nil {
		return Subject{}, fmt.Errorf("subject %q: %w", s, err)
	}
	name, spec, named := strings.Cut(all, "=")
	if !named || strings.ContainsAny(name, "+@") {
		name, spec = all, all
	}
	parts := strings.Split(spec, "+")
	kind, path, _ := strings.Cut(parts[0], "@")
	if _, ok := tools()[kind]; !ok && kind != directName {
		return Subject{}, fmt.Errorf("subject %q: unknown tool %q: want one of %s", s, kind, toolNames())
	}
	if name == "" {
		return Subject{}, fmt.Errorf("subject %q: empty name", s)
	}
	return Subject{Name: name, Tool: kind, Path: path, Extra: parts[1:], Cases: cases}, nil
}

// takesPart reports whether the case is one of the subject's.
func (s *Subject) takesPart(c Case) bool {
	if l, ok := c.(launcher); ok && !l.launches(*s) {
		return false
	}
	return regexp.MustCompile(s.Cases).MatchString(c.Name())
}

// locate fills in the program's absolute path, or why there is none.
func (s *Subject) locate() {
	if s.Tool == directName {
		return
	}
	t, path := tools()[s.Tool], s.Path
	if path == "" {
		path = t.binary
	}
	found, err := exec.LookPath(path)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		s.Missing = fmt.Sprintf("not installed: %v: %s", err, s.remedy())
		return
	}
	s.Path = found
	if t.needs == "" {
		return
	}
	if _, err := exec.LookPath(tools()[t.needs].binary); err != nil {
		s.Missing = fmt.Sprintf("needs %s, which is not installed: %v", t.needs, err)
	}
}

// remedy says how to get the program.
func (s *Subject) remedy() string {
	if s.Tool == "slipway" {
		return "build it with `make`, or name its place as in slipway@PATH"
	}
	return fmt.Sprintf("install %s, or name its place as in %s@PATH", tools()[s.Tool].binary, s.Tool)
}

// askVersion runs the program, for at most limit, for what it says of itself, and
// sees whether it can do what the tool stands for.
func (s *Subject) askVersion(ctx context.Context, limit time.Duration) {
	if s.Tool == directName || s.Missing != "" {
		return
	}
	t := tools()[s.Tool]
	version, err := programVersion(ctx, limit, s.Path, t)
	if err == nil && t.needs != "" {
		var of string
		of, err = programVersion(ctx, limit, tools()[t.needs].binary, tools()[t.needs])
		version += " with " + of
	}
	if err != nil {
		s.Missing = err.Error()
		return
	}
	s.Version = version
	wants := slices.DeleteFunc(slices.Concat([]string{t.has}, s.flags()), func(word string) bool { return word == "" })
	if len(t.help) == 0 || len(wants) == 0 {
		return
	}
	out, err := runShort(ctx, limit, s.Path, t.help...)
	for _, word := range wants {
		if err != nil || !strings.Contains(out, word) {
			s.Missing = fmt.Sprintf("too old: %s %s has no %q (%s)", filepath.Base(s.Path), strings.Join(t.help, " "), word, version)
			return
		}
	}
}

// flags are the names of the flags among the subject's own arguments.
func (s *Subject) flags() []string {
	var all []string
	for _, arg := range s.Extra {
		if name, _, _ := strings.Cut(arg, "="); strings.HasPrefix(name, "--") {
			all = append(all, name)
		}
	}
	return all
}

// programVersion returns the first line of what the program says of itself.
func programVersion(ctx context.Context, limit time.Duration, path string, t tool) (string, error) {
	path, err := exec.LookPath(path)
	if err != nil {
		return "", err
	}
	first, err := firstLine(ctx, limit, path, t.version...)
	if err != nil {
		said := strings.TrimSuffix(": "+first, ": ")
		return "", fmt.Errorf("%s %s: %w%s", filepath.Base(path), strings.Join(t.version, " "), err, said)
	}
	if info, err := os.Stat(path); err == nil {
		first += info.ModTime().Format(" (file of 2006-01-02 15:04)")
	}
	return first, nil
}

// commands returns the command lines to try, program first.
func (s *Subject) commands(j job) [][]string {
	var all [][]string
	t := tools()[s.Tool]
	for _, argv := range t.argv(j) {
		last := len(argv) - t.target
		all = append(all, concat([]string{s.Path}, argv[:last], s.Extra, argv[last:]))
	}
	return all
}

func concat(parts ...[]string) []string {
	var all []string
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
