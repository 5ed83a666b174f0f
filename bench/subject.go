// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	Version string   `json:"version,omitempty"`
	Missing string   `json:"missing,omitempty"`
}

// ParseSubject reads [NAME=]TOOL[@PATH][+ARG…], such as "slipway",
// "before=slipway@/tmp/slipway" or "stacked=slipway+--accel=off". Without a name
// the subject is called by all of the rest.
func ParseSubject(s string) (Subject, error) {
	spec := s
	name, rest, named := strings.Cut(s, "=")
	if named && !strings.ContainsAny(name, "+@") {
		spec = rest
	} else {
		name = s
	}
	parts := strings.Split(spec, "+")
	kind, path, _ := strings.Cut(parts[0], "@")
	if _, ok := tools()[kind]; !ok && kind != directName {
		return Subject{}, fmt.Errorf("subject %q: unknown tool %q: want one of %s", s, kind, toolNames())
	}
	if name == "" {
		return Subject{}, fmt.Errorf("subject %q: empty name", s)
	}
	return Subject{Name: name, Tool: kind, Path: path, Extra: parts[1:]}, nil
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
	if t.has == "" {
		return
	}
	if out, err := runShort(ctx, limit, s.Path, "--help"); err != nil || !strings.Contains(out, t.has) {
		s.Missing = fmt.Sprintf("too old: %s --help has no %q (%s)", filepath.Base(s.Path), t.has, version)
	}
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
