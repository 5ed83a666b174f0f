// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openDir returns a directory in which a plain user may make files, and which the
// test removes. That of testing.T is closed to others.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bench-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fakeHelper writes a helper that does what the shell script says when it is to
// attach, and returns the subject that names it.
func fakeHelper(t *testing.T, dir, name, attach string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	script := "#!/bin/sh\nif [ \"$1\" = version ]; then echo fake 1.0; exit; fi\n" + attach + "\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return name + "=slipway@" + path
}

// fakeDaemon writes a helper that is to go into the background, and whose script
// finds the name of the file for its process id in a variable.
func fakeDaemon(t *testing.T, dir, name, start string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	script := "#!/bin/sh\nif [ \"$1\" = --version ]; then echo fake 1.0; exit; fi\n" +
		"while [ \"$1\" != -P ]; do shift; done; pidfile=$2\n" + start + "\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return name + "=pasta@" + path
}

// slipwayFor builds the program for a helper that works, until it does not.
func slipwayFor(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "slipway")
	build := exec.Command("go", "build", "-o", path, "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build slipway: %v\n%s", err, out)
	}
	return path
}

// runBench runs the bench to its end and returns its report and all that it
// printed.
func runBench(t *testing.T, args string) (*Report, string) {
	t.Helper()
	o, err := ParseOptions(strings.Fields(args), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o.Out = filepath.Join(t.TempDir(), "out.json")
	var out, progress bytes.Buffer
	if err := runFront(t.Context(), o, []string{"bench"}, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	return loadReport(t, o.Out), out.String() + progress.String()
}

// TestFaultyHelpers measures with helpers that fail in every way: the run goes on,
// and each cell says why it is missing.
func TestFaultyHelpers(t *testing.T) {
	needUserNamespaces(t)
	dir := openDir(t)
	real := slipwayFor(t, dir)
	tests := []struct {
		name, script string
		want         string // expression that the reason of the missing cell matches
	}{
		{"exits", "echo 'no such luck' >&2; exit 3", `ended before it was ready: exit status 3: no such luck$`},
		{"leaves", "echo 'forgot a child' >&2; sleep 4321 & exit 1", `ended before it was ready: exit status 1: forgot a child$`},
		{"crashes", "kill -SEGV $$", `ended before it was ready: signal: segmentation fault.*: \(it printed nothing\)$`},
		{"hangs", "exec sleep 4321", `not ready: no sign of it within 700ms: \(it printed nothing\)$`},
		{"mute", "exec 3>&-; exec sleep 4321", `closed its ready descriptor before it was ready`},
		{"garbage", `printf 'one\n\033[2J\377\000two'; exit 1`, `exit status 1: \x{fffd}\[2J\x{fffd}\x{fffd}two$`},
		{"chatty", "yes blah; exit 1", `no sign of it within 700ms: bl?a?h?$`},
		{"boasts", "echo 1 >&3; exec sleep 4321", `the peer was not reached within 6s`},
		{"dies", real + ` "$@" & p=$!; sleep 0.8; echo 'out of luck' >&2; kill -9 $p; kill -SEGV $$`,
			`^the helper died: signal: segmentation fault[^;]*: out of luck(;|$)`},
	}
	daemons := []struct {
		name, script string
		want         string
	}{
		{"notebook", "echo garbage >$pidfile", `find the process in the background: .*"garbage"`},
		{"everyone", "echo -1 >$pidfile", `find the process in the background: -1 is none that it left there`},
		{"init", "echo 1 >$pidfile", `find the process in the background: 1 is none that it left there`},
		{"silent", "exit 0", `find the process in the background: open .*: no such file`},
		{"front", "exec sleep 4321", `did not go into the background: no sign of it within 700ms`},
		{"away", "(sleep 0.1; echo 'gone soon' >&2; exit 7) & echo $! >$pidfile", `^the helper died: exit status 7: gone soon; container: reach: `},
	}
	subjects := []string{directName, "works=slipway@" + real, "nowhere=slipway@/no/such/file"}
	want := map[string]*regexp.Regexp{"nowhere": regexp.MustCompile("not installed: .*: build it with `make`")}
	for _, tt := range tests {
		subjects = append(subjects, fakeHelper(t, dir, tt.name, tt.script))
		want[tt.name] = regexp.MustCompile(tt.want)
	}
	for _, tt := range daemons {
		subjects = append(subjects, fakeDaemon(t, dir, tt.name, tt.script))
		want[tt.name] = regexp.MustCompile(tt.want)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	sleepy := filepath.Join(dir, "sleepy")
	if err := os.WriteFile(sleepy, []byte("#!/bin/sh\nexec sleep 4321\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	subjects = append(subjects, "broken=slipway@"+broken, "sleepy=slipway@"+sleepy)
	want["broken"] = regexp.MustCompile(`broken version: .*exec format error`)
	want["sleepy"] = regexp.MustCompile(`sleepy version: it did not end within 700ms$`)

	r, printed := runBench(t, "-cases ^tcp/roundtrip/1$ -duration 1s -repeat 1 -mtu 1500 -cc reno -user nobody -start-limit 700ms -subjects "+strings.Join(subjects, ","))
	printed = strings.Join(strings.Fields(strings.ReplaceAll(printed, "\r\x1b[K", "")), " ") // lines are wrapped
	for _, c := range r.Cells {
		switch expr := want[c.Subject]; {
		case c.Row.Metric.Name != "p50":
		case expr == nil && c.Missing != "": // how plausible it is depends on what else runs here
			t.Errorf("%s: missing for %q", c.Subject, c.Missing)
		case expr != nil && !expr.MatchString(c.Missing):
			t.Errorf("%s: missing for %q, want %s", c.Subject, c.Missing, expr)
		case expr != nil && !strings.Contains(oneSpaced(printed), oneSpaced(c.Missing)):
			t.Errorf("%s: %q is not in the report", c.Subject, c.Missing)
		}
	}
	if strings.ContainsRune(printed, '\x1b') {
		t.Error("a helper's control characters got to the terminal")
	}
	if left := commandsWith(t, "4321"); len(left) > 0 {
		t.Errorf("still there: %q", left)
	}
}

// oneSpaced undoes the breaking of lines.
func oneSpaced(s string) string { return strings.Join(strings.Fields(s), " ") }

// commandsWith returns the command lines that have the argument.
func commandsWith(t *testing.T, arg string) []string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, path := range paths {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), "\x00"+arg+"\x00") {
			all = append(all, string(b))
		}
	}
	return all
}

// TestNoUserNamespaces runs the bench where user namespaces are used up: one clear
// line says so, before anything is measured.
func TestNoUserNamespaces(t *testing.T) {
	needUserNamespaces(t)
	code, out := runLimited(t, "0", "-subjects", "direct", "-cases", "^tcp/connect/1$")
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(out, "\r\x1b[K", "")) {
		if !strings.HasPrefix(line, "warning: ") {
			lines = append(lines, line)
		}
	}
	if code != exitFailure || len(lines) != 1 || !strings.Contains(lines[0], "max_user_namespaces is 0: as root, `sysctl -w user.max_user_namespaces=") {
		t.Errorf("it ended with %d and printed %q, want %d and one line that says what to do", code, lines, exitFailure)
	}
}

// TestNoContainer runs the bench where there is a user namespace for the stage, but
// none for a container: the direct path is measured.
func TestNoContainer(t *testing.T) {
	needUserNamespaces(t)
	dir := openDir(t)
	code, out := runLimited(t, "1", "-subjects", "direct,"+fakeHelper(t, dir, "fake", "exit 1"), "-cases", "^tcp/connect/1$", "-duration", "100ms", "-repeat", "1")
	if text := strings.Join(strings.Fields(out), " "); code != 0 || !strings.Contains(text, "MISSING: start container: ") || !strings.Contains(text, "raise it with `sysctl -w`") {
		t.Errorf("it ended with %d, want 0 and the reason why there is no container:\n%s", code, out)
	}
	if !regexp.MustCompile(`(?m)^.*[1-9][0-9]+ .*missing`).MatchString(out) {
		t.Errorf("there is no row with the direct path only:\n%s", out)
	}
}

// runLimited runs the bench, in a user namespace of its own with one plain user, so
// that it can make only as many user namespaces as limit says.
func runLimited(t *testing.T, limit string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", concat([]string{limitFlag + limit}, args)...)
	f := &front{opts: Options{User: "nobody"}}
	cred, err := f.becomeUser()
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if cred != nil {
		uid, gid = int(cred.Uid), int(cred.Gid)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE}, // to change the limit
		Credential:  cred,
	}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok && err != nil {
		t.Fatalf("%v %v\n%s", exit, err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestBadMachine looks for one clear line about what is wrong before the run.
func TestBadMachine(t *testing.T) {
	tests := []struct {
		name, args string
		want       string
	}{
		{name: "report nowhere", args: "-out /proc/self/fdinfo/x.json", want: "-out: the report could not be written"},
		{name: "no such CPU", args: "-pin helper=1023", want: "-pin helper=1023: this machine lets the bench use"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := ParseOptions(strings.Fields("-cases ^tcp/connect/1$ -subjects direct "+tt.args), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			oneLine(t, runFront(ctx, o, []string{"bench"}, io.Discard, io.Discard), tt.want)
		})
	}
}

// TestPlainUser looks for one clear line about a user that cannot be become.
func TestPlainUser(t *testing.T) {
	_, err := plainUser("no-such-user")
	oneLine(t, err, "choose another with -user")
	_, err = plainUser("root")
	oneLine(t, err, "that is root")
	if cred, err := plainUser("nobody"); err != nil || cred.Uid == 0 {
		t.Errorf("nobody is %+v, error %v", cred, err)
	}
}

func oneLine(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line with %q", err, want)
	}
}

// TestMissingParts measures what is left where a congestion control and iperf3 are
// not there.
func TestMissingParts(t *testing.T) {
	needUserNamespaces(t)
	t.Setenv("PATH", openDir(t))
	r, printed := runBench(t, "-cases ^tcp/throughput/up/1$|^iperf3/up/1$ -duration 200ms -repeat 1 -mtu 1500 -subjects direct -cc reno,nosuch -user nobody")
	got := map[string]string{}
	for _, c := range r.Cells {
		if c.Row.Metric.Name == "rate" {
			got[c.Row.Case+" "+c.Row.Congestion] = c.Missing
		}
	}
	if why, ok := got["tcp/throughput/up/1 reno"]; !ok || why != "" {
		t.Errorf("throughput is missing for %q (a cell: %v)", why, ok)
	}
	for cell, want := range map[string]string{
		"iperf3/up/1 reno":           "iperf3 is not installed",
		"tcp/throughput/up/1 nosuch": `congestion control "nosuch" is not available`,
	} {
		if !strings.Contains(got[cell], want) || !strings.Contains(printed, want) {
			t.Errorf("%s: missing for %q, want %q, and in the report", cell, got[cell], want)
		}
	}
}
