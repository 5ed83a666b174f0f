// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestSpliceLoDown takes lo down, over which spliced connections run, and up again.
func TestSpliceLoDown(t *testing.T) {
	r := spliced(t)
	r.c.Exec(t, "ip", "link", "set", "lo", "down")
	families(t, func(t *testing.T, f attachtest.Family) {
		for range 5 {
			r.speaksBy(t, f, netstack.PathStacked)
		}
	})
	for _, f := range attachtest.Families() {
		attachtest.Eventually(t, "the log says that TCP is stacked by "+f.Name, func() bool { return r.logged(saysStacked+" family="+f.Name) > 0 })
	}
	r.c.Exec(t, "ip", "link", "set", "lo", "up")
	families(t, func(t *testing.T, f attachtest.Family) {
		attachtest.Eventually(t, "TCP is spliced again", func() bool {
			p := r.connectAny(t, f)
			defer p.close()
			return r.flowOf(t, p).Path == netstack.PathSpliced
		})
	})
}

// TestSpliceLoDownLeavesNothing does the same and ends: rules of both families go.
func TestSpliceLoDownLeavesNothing(t *testing.T) {
	r := &rig{World: attachtest.Open(t), c: attachtest.NewContainer(t), plan: newPlan(t), log: &syncBuffer{}}
	t.Cleanup(func() {
		if got := traces(t, r.c); strings.Contains(got, "fwmark") || strings.Contains(got, "slipway") {
			t.Errorf("left behind: %s", got)
		}
	})
	t.Run("session", func(t *testing.T) {
		r.open(t, nil)
		r.waitSpliced(t, 1)
		r.c.Exec(t, "ip", "link", "set", "lo", "down")
		families(t, func(t *testing.T, f attachtest.Family) {
			for range 5 {
				r.speaksBy(t, f, netstack.PathStacked)
			}
		})
		attachtest.Eventually(t, "a repair was tried", func() bool { return r.logged(saysStacked+" family=IPv4") > 1 })
	})
}
