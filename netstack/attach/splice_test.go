// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// What the log says of the spliced path.
const (
	saysSpliced = `msg="TCP is spliced"`
	saysStacked = `msg="TCP is stacked, not spliced"`
	saysNoPath  = `msg="TCP is stacked"`
)

// paths runs a test on each of the ways that TCP can take.
func paths(t *testing.T, test func(t *testing.T, path string)) {
	for _, path := range []string{netstack.PathStacked, netstack.PathSpliced} {
		t.Run(path, func(t *testing.T) { test(t, path) })
	}
}

// startOn is start for a session whose TCP must take the path.
func startOn(t testing.TB, path string, change func(*attach.Config)) *rig {
	t.Helper()
	r := start(t, func(cfg *attach.Config) {
		cfg.NoSplice = path == netstack.PathStacked
		if change != nil {
			change(cfg)
		}
	})
	r.path = path
	if path == netstack.PathSpliced {
		r.waitSpliced(t, 1)
	}
	return r
}

// spliced is startOn for the spliced path, without a change.
func spliced(t testing.TB) *rig {
	t.Helper()
	return startOn(t, netstack.PathSpliced, nil)
}

// waitSpliced waits until the log has said n times that each family is spliced.
func (r *rig) waitSpliced(t testing.TB, n int) {
	t.Helper()
	attachtest.Eventually(t, "both families are spliced", func() bool {
		return r.logged(saysSpliced+" family=IPv4") >= n && r.logged(saysSpliced+" family=IPv6") >= n
	})
}

// logged returns how many times the session's log has the text.
func (r *rig) logged(text string) int { return strings.Count(r.log.String(), text) }

// flows returns the TCP flows.
func (r *rig) flows(t testing.TB) []netstack.FlowInfo {
	t.Helper()
	var tcp []netstack.FlowInfo
	for _, f := range r.s.Flows(context.Background()) {
		if f.Proto == "tcp" {
			tcp = append(tcp, f)
		}
	}
	return tcp
}

// flowOf returns the flow of a connection, once that is open: the container's
// kernel may have shaken hands before the session notices.
func (r *rig) flowOf(t testing.TB, p tcpPair) netstack.FlowInfo {
	t.Helper()
	var found netstack.FlowInfo
	attachtest.Eventually(t, "the flow is open", func() bool {
		found = r.flowFrom(t, tcpAddr(p.container.LocalAddr()))
		return found.State == "open"
	})
	return found
}

// flowFrom returns the flow that comes from the container's address, the zero
// FlowInfo where there is none.
func (r *rig) flowFrom(t testing.TB, from netip.AddrPort) netstack.FlowInfo {
	t.Helper()
	for _, f := range r.flows(t) {
		if f.Container == from {
			return f
		}
	}
	return netstack.FlowInfo{}
}

// noFlows waits until no TCP flow is left.
func (r *rig) noFlows(t testing.TB) {
	t.Helper()
	attachtest.Eventually(t, "all flows are closed", func() bool { return len(r.flows(t)) == 0 })
}

// speaksBy proves that TCP works, by the path.
func (r *rig) speaksBy(t testing.TB, f attachtest.Family, path string) {
	t.Helper()
	old := r.path
	r.path = path
	p := r.connect(t, f)
	r.path = old
	exchange(t, p.container, p.peer)
	exchange(t, p.peer, p.container)
}

func tcpAddr(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// deadlineNow is the time until which anything that begins now must have happened.
func deadlineNow() time.Time { return time.Now().Add(attachtest.Patience) }

// open makes and runs the session of a rig whose container was there before.
func (r *rig) open(t testing.TB, change func(*attach.Config)) {
	t.Helper()
	r.make(t, change)
	r.run(t)
}
