// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/launcher"
)

// fakeGroup is a directory with the files that a delegated control group has.
func fakeGroup(t *testing.T, controllers string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cgroup.controllers"), controllers)
	write(t, filepath.Join(dir, "cgroup.subtree_control"), "")
	if err := os.Mkdir(filepath.Join(dir, "supervisor"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "supervisor/cgroup.procs"), "")
	return dir
}

// TestLimitFiles looks at what would be written to a control group. That the kernel
// obeys it, TestSystemd of the program shows.
func TestLimitFiles(t *testing.T) {
	t.Parallel()
	files, controllers := launcher.LimitFiles(launcher.Limits{Memory: 64 << 20, CPUs: 1.5, Pids: 10})
	want := map[string]string{"memory.max": "67108864", "cpu.max": "150000 100000", "pids.max": "10"}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got := strings.Join(controllers, " "); got != "cpu memory pids" {
		t.Errorf("controllers %q", got)
	}
}

func TestCgroupErrors(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]string{
		"no group":              filepath.Join(t.TempDir(), "none"),
		"no controller":         fakeGroup(t, "pids\n"),
		"not what it pretends":  fakeGroup(t, "cpu memory pids\n"), // a plain directory has no files of its own
		"not the caller's part": t.TempDir(),
	} {
		err := launcher.NewCgroup(own, launcher.Limits{Memory: 1 << 20})
		if err == nil || !strings.HasPrefix(err.Error(), "limits: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line about limits", name, err)
		}
		if _, err := os.Stat(filepath.Join(own, "container")); err == nil {
			t.Errorf("%s: a group was left", name)
		}
	}
}

// TestLimitsAreNotIgnored asks for a limit: it holds, or the container does not start.
func TestLimitsAreNotIgnored(t *testing.T) {
	c := sh("cat /sys/fs/cgroup/pids.max 2> /dev/null || cat /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)/pids.max")
	c.Limits.Pids = 77
	o := run(t, c)
	if o.err == nil {
		if o.must(t) != "77" {
			t.Errorf("the container runs with pids.max %q, want 77", o.stdout)
		}
		return
	}
	if o.code != 125 || !strings.Contains(o.err.Error(), "limits: ") || !strings.Contains(o.err.Error(), "to mend it: ") {
		t.Errorf("code %d, error %v, want 125 and what to do", o.code, o.err)
	}
}
