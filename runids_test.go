// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestAutoAgain starts containers with slices of ids again, after others have taken some,
// and after a reboot: they find their files as they left them, and nobody else has their ids.
func TestAutoAgain(t *testing.T) {
	u := newImageUser(t)
	const script = "busybox grep -o ' 1[0-9]* ' /proc/self/uid_map; touch /mine || exit; stat -c %u /mine; exec sleep 1000"
	ids := func(name string) string {
		t.Helper()
		var out string
		attachtest.Eventually(t, name+" tells its ids", func() bool {
			out = u.slipway(t, "logs", "--tail", "2", name).stdout
			return strings.HasSuffix(out, "\n0\n")
		})
		return strings.TrimSpace(out)
	}
	run := func(name string) string {
		t.Helper()
		args := []string{"run", "-d", "-q", "--net=none", "--userns=auto", "--name", name, "box", "sh", "-c", script}
		if got := u.slipway(t, args...); got.code != 0 {
			t.Fatalf("run: %+v", got)
		}
		return ids(name)
	}
	first := run("first")
	u.says(t, "first", "stop", "-t0", "first")
	for _, name := range []string{"second", "third"} {
		if got := run(name); got == first {
			t.Errorf("%s has the ids of the first, %s", name, got)
		}
		u.says(t, "first", "start", "first")
		if got := ids("first"); got != first {
			t.Errorf("the first has %s, and had %s", got, first)
		}
		u.says(t, "first", "stop", "-t0", "first")
		u.says(t, name, "rm", "-f", name)
		// As a reboot does.
		files, err := filepath.Glob(filepath.Join(u.dir, "run/slipway/slices.*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("the table of ids: %q, %v", files, err)
		}
		for _, f := range files {
			os.Remove(f)
		}
	}
	u.says(t, "first", "rm", "first")
}
