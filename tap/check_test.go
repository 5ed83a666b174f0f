// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// TestChecksPass needs a machine on which slipway runs, as all tests here do.
func TestChecksPass(t *testing.T) {
	taptest.RequireUserNS(t)
	before := files(t)
	checks := append(tap.CheckAcceleration(), tap.CheckTun(), tap.CheckUserNS())
	if got, want := len(checks), 9; got != want {
		t.Errorf("%d checks, want %d", got, want)
	}
	for _, c := range checks {
		if !c.OK || c.Detail != "" || c.Fix != "" {
			t.Errorf("%s: %s; fix: %s", c.Name, c.Detail, c.Fix)
		}
	}
	if diff := cmp.Diff(before, files(t)); diff != "" {
		t.Errorf("descriptors (-before +after):\n%s", diff)
	}
}

// TestCheckPing compares with what the kernel says to a ping socket.
func TestCheckPing(t *testing.T) {
	c := tap.CheckPing()
	b, err := os.ReadFile("/proc/sys/net/ipv4/ping_group_range")
	if err != nil {
		t.Fatal(err)
	}
	lo, err := strconv.Atoi(strings.Fields(string(b))[0])
	if err != nil {
		t.Fatal(err)
	}
	hi, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("id", "-G").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := false
	for _, g := range strings.Fields(string(out)) {
		id, err := strconv.Atoi(g)
		want = want || err == nil && lo <= id && id <= hi
	}
	if c.OK != want || c.OK == (c.Fix != "") {
		t.Errorf("got %+v, want OK=%t for the range %q", c, want, b)
	}
}
