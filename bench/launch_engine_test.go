// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns"
)

// launchUser is the plain user with subordinate ids who runs containers in the tests: we
// or, where we are root, the one of the tests. Without one the test is skipped.
func launchUser(t *testing.T) string {
	t.Helper()
	needUserNamespaces(t)
	const ours = "slipway-test" // see scripts/test-setup
	name, why := "nobody", ""
	if os.Getuid() != 0 {
		who, err := userns.Load()
		if err == nil {
			_, err = who.Default()
		}
		if err != nil {
			why = err.Error()
		}
	} else if _, err := user.Lookup(ours); err == nil {
		name = ours
	} else {
		why = err.Error()
	}
	if why == "" {
		return name
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("no subordinate ids: %s", why)
	}
	t.Skipf("no subordinate ids: %s", why)
	return ""
}

// TestFaultyEngines runs engines that fail in every way: the run goes on, each cell says
// why it is missing, and nothing stays behind.
func TestFaultyEngines(t *testing.T) {
	who := launchUser(t)
	dir := openDir(t)
	const program = `exec -a /bin/true "$3/bin/true" "${!#}"`
	tests := []struct {
		name, script string
		want         string // expression that the reason of the missing cell matches; empty for a value
	}{
		{"works", program, ""},
		{"leaves", "sleep 4322 & " + program, ""},
		{"fails", "echo 'no such luck' >&2; exit 3", `^fails: exit status 3: no such luck$`},
		{"crashes", "kill -SEGV $$", `^crashes: signal: segmentation fault.*: \(it printed nothing\)$`},
		{"hangs", "exec sleep 4322", `^hangs: it did not end within 700ms: \(it printed nothing\)$`},
		{"boasts", "exit 0", `^boasts ended well, but its container's program did not run: \(it printed nothing\)$`},
		{"guesses", "echo 1234; exit 0", `^guesses ended well, but its container's program did not run: 1234$`},
		{"hurries", `echo "${!#}"; exit 0`, `^the container's program did not wait for its standard input$`},
	}
	subjects := []string{directName, "nowhere=bwrap@/no/such/file"}
	for _, tt := range tests {
		path := filepath.Join(dir, tt.name)
		script := "#!/bin/bash\nif [ \"$1\" = --version ]; then echo fake 1.0; exit; fi\n" + tt.script + "\n"
		if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		subjects = append(subjects, tt.name+"=bwrap@"+path)
	}
	place := openDir(t)
	r, printed := runBench(t, "-launch -repeat 2 -start-limit 700ms -cases no-network -user "+who+" -dir "+place+" -subjects "+strings.Join(subjects, ","))
	for _, tt := range append(tests, struct{ name, script, want string }{"nowhere", "", "^not installed: "}) {
		c := r.cellOf(tt.name, launchStart{}.Name(), "time")
		if tt.want == "" && len(c.Values) != 2 || tt.want != "" && !regexp.MustCompile(tt.want).MatchString(c.Missing) {
			t.Errorf("%s: values %v, missing for %q, want %q", tt.name, c.Values, c.Missing, tt.want)
		}
	}
	if left, err := os.ReadDir(place); err != nil || len(left) > 0 {
		t.Errorf("files left behind: %v, error %v", left, err)
	}
	if left := commandsWith(t, "4322"); len(left) > 0 {
		t.Errorf("still there: %q", left)
	}
	if t.Failed() {
		t.Log(printed)
	}
}

// TestEngines runs the engines that are installed: each has a value, or a reason why
// not, and those that map ids and make namespaces were seen to.
func TestEngines(t *testing.T) {
	who := launchUser(t)
	dir := openDir(t)
	place := openDir(t)
	r, printed := runBench(t, "-launch -repeat 1 -files 200 -size 2 -user "+who+" -dir "+place+" -subjects direct,bwrap,crun,runc,podman,umoci,slipway@"+slipwayFor(t, dir))
	for _, s := range r.Plan.Subjects {
		if _, err := exec.LookPath(tools()[s.Tool].binary); err != nil && s.Tool != directName && s.Tool != ownTool {
			if !strings.HasPrefix(s.Missing, "not installed") {
				t.Errorf("%s: missing for %q, want it not installed", s.Name, s.Missing)
			}
			continue
		}
		for _, c := range r.Cells {
			if c.Subject == s.Name && c.Expected() && c.Missing != "" && !excused(c.Missing) {
				t.Errorf("%s, %s: missing for %q", s.Name, c.Row.Case, c.Missing)
			}
		}
		if excused(r.cellOf(s.Name, launchStart{}.Name(), "time").Missing) {
			continue
		}
		if has := seenOf(r, s.Name); (launchStart{}).launches(s) && s.Tool != directName && !strings.Contains(has, "namespaces user mnt pid ipc uts net") {
			t.Errorf("%s: %q, want namespaces", s.Name, has)
		}
	}
	if left, err := os.ReadDir(place); err != nil || len(left) > 0 {
		t.Errorf("files left behind: %v, error %v", left, err)
	}
	if t.Failed() {
		t.Log(printed)
	}
}

// excused reports whether the reason is one of a plain user's, whom crun takes no machine
// with control groups of both versions from, and for whom no newuidmap works under strace.
func excused(missing string) bool {
	if os.Getuid() == 0 {
		return false
	}
	var s unix.Statfs_t
	hybrid := unix.Statfs(unifiedPath, &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC
	return hybrid && strings.Contains(missing, "cgroups in hybrid mode not supported") || strings.Contains(missing, "is not where a plain user traces it")
}
