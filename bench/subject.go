// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// defaultSlipway is where `make` puts the helper, relative to the repository.
const defaultSlipway = "bin/slipway"

// A tool is a kind of helper: how its users start it.
type tool struct {
	binary  string   // looked up in PATH where the subject names no path
	version []string // arguments that print the version
	ready   readyKind
	// argv returns the arguments in order of preference. Later ones stand in where
	// a version or a machine does not take the earlier ones.
	argv func(j job) [][]string
}

// A job says what a helper is to be started for.
type job struct {
	MTU     int // bytes
	PID     int // of a process in the container
	PIDFile string
}

// A readyKind is how a helper says that the network is up.
type readyKind int

// The ways to say it.
const (
	readyByFD   readyKind = iota // it writes to descriptor readyFD
	readyByExit                  // it goes into the background: the parent exits with 0
)

// readyFD is the number of the descriptor that a helper writes to: the first of
// exec.Cmd's ExtraFiles.
const readyFD = 3

// tools returns the kinds of subject by name. "direct" is no tool: it is the path
// without any helper.
func tools() map[string]tool {
	return map[string]tool{
		"slirp4netns": {
			binary: "slirp4netns", version: []string{"--version"}, ready: readyByFD,
			// As Podman starts it (containers/common, libnetwork/slirp4netns).
			argv: func(j job) [][]string {
				base := []string{"--disable-host-loopback", fmt.Sprintf("--mtu=%d", j.MTU), "--enable-ipv6", "-c", "-r", strconv.Itoa(readyFD)}
				target := []string{strconv.Itoa(j.PID), "tap0"}
				return [][]string{
					concat(base, []string{"--enable-sandbox", "--enable-seccomp"}, target),
					concat(base, []string{"--enable-seccomp"}, target),
					concat(base, target),
				}
			},
		},
		"pasta": {
			binary: "pasta", version: []string{"--version"}, ready: readyByExit,
			// As Podman starts it (containers/common, libnetwork/pasta), which is inside
			// the user namespace already and so gives no --userns.
			argv: func(j job) [][]string {
				base := []string{"--config-net", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw", "--dns-forward", pastaDNS, "--quiet",
					"-m", strconv.Itoa(j.MTU), "-P", j.PIDFile,
					"--userns", fmt.Sprintf("/proc/%d/ns/user", j.PID), "--netns", fmt.Sprintf("/proc/%d/ns/net", j.PID)}
				return [][]string{base}
			},
		},
		"slipway": {
			binary: defaultSlipway, version: []string{"version"}, ready: readyByFD,
			argv: func(j job) [][]string {
				return [][]string{{"attach", "--mtu", strconv.Itoa(j.MTU), "--ready-fd", strconv.Itoa(readyFD), strconv.Itoa(j.PID)}}
			},
		},
	}
}

// directName is the subject that has no helper.
const directName = "direct"

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
		return Subject{}, fmt.Errorf("subject %q: unknown tool %q: want direct, slipway, slirp4netns or pasta", s, kind)
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
	path := s.Path
	if path == "" {
		path = tools()[s.Tool].binary
	}
	found, err := exec.LookPath(path)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		s.Missing = fmt.Sprintf("not installed: %v", err)
		return
	}
	s.Path = found
}

// askVersion runs the program for the first line of what it says of itself.
func (s *Subject) askVersion() {
	if s.Tool == directName || s.Missing != "" {
		return
	}
	cmd := exec.Command(s.Path, tools()[s.Tool].version...)
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil {
		s.Missing = fmt.Sprintf("%s %s: %v: %s", s.Path, strings.Join(tools()[s.Tool].version, " "), err, first)
		return
	}
	s.Version = first
	if info, err := os.Stat(s.Path); err == nil {
		s.Version += info.ModTime().Format(" (file of 2006-01-02 15:04)")
	}
}

// commands returns the command lines to try, program first.
func (s *Subject) commands(j job) [][]string {
	var all [][]string
	for _, argv := range tools()[s.Tool].argv(j) {
		// Extra options go before the last argument, which is the target.
		last := len(argv) - 1
		if s.Tool == "slirp4netns" {
			last--
		}
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
