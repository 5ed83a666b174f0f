// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// seenPoll is the time between two looks for a container's program.
const seenPoll = time.Millisecond

// proveLine returns an error unless the program's line, which nobody else knows, is a
// line of what was written.
func (o output) proveLine(line string) error {
	for l := range strings.Lines(o.text) {
		if strings.TrimSpace(l) == line {
			return nil
		}
	}
	return fmt.Errorf("%s ended well, but its container's program did not run: %s", o.program, o.said())
}

// A seen is what a container has, looked at from outside while its program runs.
type seen struct {
	Namespaces []string `json:"namespaces"` // of its own, by their names in /proc/PID/ns
	UIDs       int64    `json:"uids"`       // that its user namespace maps; 0 where it has none
	Root       string   `json:"root"`       // its root's kind of file system
	Seccomp    bool     `json:"seccomp"`    // whether a filter is on
	NoNewPrivs bool     `json:"no_new_privs"`
	Links      []string `json:"links"` // its interfaces, but for lo
	Route      bool     `json:"route"` // whether it has a default route
}

// namespaceKinds are the kinds of namespace of proc_pid_ns(5) that containers have.
var namespaceKinds = [...]string{"user", "mnt", "pid", "ipc", "uts", "net", "cgroup"}

// look runs a container of the subject and sees what it has.
func (y *yard) look(ctx context.Context, s Subject, network bool) (seen, error) {
	var found seen
	err := y.hold(ctx, y.argv(s, network, true), func(pid int) (err error) {
		found, err = lookAt(pid)
		return err
	})
	return found, err
}

// hold runs a container, inspects the process of its program while that waits, and lets
// it end.
func (y *yard) hold(ctx context.Context, argv []string, inspect func(pid int) error) error {
	in, hold, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("hold a container: %w", err)
	}
	defer hold.Close()
	r, err := y.command(ctx, y.limit, argv, in)
	in.Close()
	if err != nil {
		return err
	}
	defer r.out.Close()
	over := make(chan error, 1)
	go func() { over <- r.wait() }()
	for {
		pid, err := y.findProgram()
		if err == nil && pid != 0 && r.output().proveLine(y.line) == nil { // it has got to its end
			err = inspect(pid)
			hold.Close()
			return errors.Join(err, <-over, y.settle())
		}
		select {
		case ended := <-over:
			if ended == nil {
				ended = r.output().proveLine(y.line)
			}
			if ended == nil {
				ended = errors.New("the container's program did not wait for its standard input")
			}
			return errors.Join(ended, err, y.settle())
		case <-time.After(seenPoll):
		}
	}
}

// findProgram returns the process of ours that is the program, in a container or without
// one; 0 if there is none yet.
func (y *yard) findProgram() (int, error) {
	pids, err := processTree(os.Getpid(), 0)
	if err != nil {
		return 0, err
	}
	inside := []byte(programName + "\x00" + y.line + "\x00")
	alone := concatBytes([]byte(y.rootfs), inside)
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && (bytes.Equal(b, inside) || bytes.Equal(b, alone)) { // one that has ended has none
			return pid, nil
		}
	}
	return 0, nil
}

// lookAt sees what the process has that we do not.
func lookAt(pid int) (seen, error) {
	var s seen
	proc := func(name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
	for _, kind := range namespaceKinds {
		its, err := os.Readlink(proc("ns/" + kind))
		if err != nil {
			return s, fmt.Errorf("look at the container: %w", err)
		}
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return s, fmt.Errorf("look at our own namespaces: %w", err)
		}
		if its != ours {
			s.Namespaces = append(s.Namespaces, kind)
			if kind == "user" {
				s.UIDs = mappedIDs(readFile(proc("uid_map")))
			}
		}
	}
	s.Root = rootType(readFile(proc("mountinfo")))
	s.Seccomp = field(proc("status"), "Seccomp") == "2" // SECCOMP_MODE_FILTER
	s.NoNewPrivs = field(proc("status"), "NoNewPrivs") == "1"
	s.Links = links(readFile(proc("net/dev")))
	s.Route = defaultRoute(readFile(proc("net/route")))
	return s, nil
}

// mappedIDs adds up the lengths of the ranges in uid_map (user_namespaces(7)).
func mappedIDs(s string) int64 {
	total := int64(0)
	for l := range strings.Lines(s) {
		if f := strings.Fields(l); len(f) == 3 {
			n, err := strconv.ParseInt(f[2], 10, 64)
			if err == nil {
				total += n
			}
		}
	}
	return total
}

// rootType returns the kind of file system that is mounted on / last
// (proc_pid_mountinfo(5)).
func rootType(s string) string {
	found := ""
	for l := range strings.Lines(s) {
		head, tail, _ := strings.Cut(l, " - ")
		f, kind := strings.Fields(head), strings.Fields(tail)
		if len(f) > 4 && f[4] == "/" && len(kind) > 0 {
			found = kind[0]
		}
	}
	return found
}

// links returns the names in net/dev but for lo; two lines of headings come first
// (proc_pid_net(5)).
func links(s string) []string {
	var all []string
	for l := range strings.Lines(s) {
		if name, _, ok := strings.Cut(strings.TrimSpace(l), ":"); ok && name != "lo" {
			all = append(all, name)
		}
	}
	return all
}

// defaultRoute reports whether net/route has one to 0.0.0.0/0: destination and mask are
// the second and the eighth field.
func defaultRoute(s string) bool {
	for l := range strings.Lines(s) {
		if f := strings.Fields(l); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			return true
		}
	}
	return false
}

// seenOf says what the subject's containers were seen to have; of cases that differ,
// what the last one had. Empty where none was looked at.
func seenOf(r *Report, subject string) string {
	text := ""
	for _, rec := range r.Records {
		var d startDetail
		if rec.Subject != subject || !isLaunch(r) || json.Unmarshal(rec.Detail, &d) != nil || len(d.Seen.Namespaces) == 0 {
			continue
		}
		text = "seen: " + d.Seen.String()
	}
	return text
}

// writeSeen writes what the containers of each column were seen to have.
func writeSeen(b *strings.Builder, r *Report, columns []Subject) {
	var all []string
	for _, s := range columns {
		if has := seenOf(r, s.Name); has != "" {
			all = append(all, markdown(s.Name+", "+has))
		}
	}
	if len(all) > 0 {
		fmt.Fprintf(b, "\nWhat each one's containers had: %s.\n\n", strings.Join(all, "; "))
	}
}

// String says it in a line.
func (s seen) String() string {
	if len(s.Namespaces) == 0 {
		return "nothing of its own"
	}
	parts := []string{"namespaces " + strings.Join(s.Namespaces, " ")}
	if s.UIDs > 0 {
		parts = append(parts, plural(int(s.UIDs), "uid"))
	}
	parts = append(parts, s.Root+" as root")
	if s.Seccomp {
		parts = append(parts, "seccomp filter")
	}
	if s.NoNewPrivs {
		parts = append(parts, "no_new_privs")
	}
	switch {
	case len(s.Links) > 0 && s.Route:
		parts = append(parts, "network by "+strings.Join(s.Links, " "))
	case len(s.Links) > 0:
		parts = append(parts, "interfaces "+strings.Join(s.Links, " ")+" without a route")
	}
	return strings.Join(parts, ", ")
}
