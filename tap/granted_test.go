// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// TestGranted is about namespaces that our user made, from outside: the first is
// ours, in which the second was made, by its root, who is our user too.
func TestGranted(t *testing.T) {
	c := taptest.NewContainer(t)
	cmd := c.Command("unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo $$; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]tap.Target{
		"process":     {PID: c.PID()},
		"path":        {NetNS: c.NetNSPath()},
		"below":       {PID: pid},
		"below_named": {PID: pid, UserNS: fmt.Sprintf("/proc/%d/ns/user", pid)},
	} {
		if d := open(t, tap.Config{Target: target, Name: name}); !d.Granted() {
			t.Errorf("%s: not granted", name)
		}
	}
}

// TestNotGranted is about a network namespace that belongs to the user namespace
// we are in.
func TestNotGranted(t *testing.T) {
	if !inside(t) {
		return
	}
	c := taptest.NewNetNS(t)
	if d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}}); d.Granted() {
		t.Error("granted by owning")
	}
}
