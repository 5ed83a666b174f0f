// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// routeTable is the routing table of the spliced path, as the documentation has it.
const routeTable = "1296"

// TestSpliceMeddling undoes, in the container, what the spliced path needs. New
// connections must work all the while, and be spliced again in the end.
func TestSpliceMeddling(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	for _, tt := range []struct {
		name       string
		undo, mend string
		itself     bool // it is mended without mend
	}{
		{name: "routing rule", itself: true, undo: "ip rule del pref 1; ip -6 rule del pref 1"},
		{name: "routes", itself: true, undo: fmt.Sprintf("ip route flush table %[1]s; ip -6 route flush table %[1]s", routeTable)},
		{
			name: "accept_local", mend: "echo 1 > /proc/sys/net/ipv4/conf/tap0/accept_local; nft delete table ip6 f",
			undo: "echo 0 > /proc/sys/net/ipv4/conf/tap0/accept_local; nft add table ip6 f '{ chain in { type filter hook input priority 0; iif tap0 tcp flags & (syn|ack) == syn drop; }; }'",
		},
		{
			name: "input", mend: "nft delete table inet f",
			undo: "nft add table inet f '{ chain in { type filter hook input priority 0; policy drop; iif tap0 meta l4proto != tcp accept; iif tap0 tcp flags & (syn|ack) != syn accept; }; }'",
		},
		{
			name: "prerouting", mend: "nft delete table inet f",
			undo: "nft add table inet f '{ chain pre { type filter hook prerouting priority -300; tcp flags & (syn|ack) == syn drop; }; }'",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // each waits for the container's kernel to send SYNs again
			r := spliced(t)
			r.c.Exec(t, "sh", "-ec", tt.undo)
			families(t, func(t *testing.T, f attachtest.Family) {
				for range 5 {
					r.speaksBy(t, f, "") // by whichever path
				}
			})
			if !tt.itself {
				families(t, func(t *testing.T, f attachtest.Family) { r.speaksBy(t, f, netstack.PathStacked) })
				for _, f := range attachtest.Families() {
					attachtest.Eventually(t, "the log says that TCP is stacked by "+f.Name, func() bool { return r.logged(saysStacked+" family="+f.Name) > 0 })
				}
				r.c.Exec(t, "sh", "-ec", tt.mend)
			}
			families(t, func(t *testing.T, f attachtest.Family) {
				attachtest.Eventually(t, "TCP is spliced again", func() bool {
					p := r.connectAny(t, f)
					defer p.close()
					return r.flowOf(t, p).Path == netstack.PathSpliced
				})
				r.speaksBy(t, f, netstack.PathSpliced)
			})
		})
	}
}

// TestSpliceListenerEnded ends, in the container, the listening that the path stands on
// (ss -K). Connections after the first one are stacked at once: their SYNs are not sent
// again.
func TestSpliceListenerEnded(t *testing.T) {
	attachtest.NeedTools(t, "ss")
	r := spliced(t)
	r.c.Run(t, "ss", "-K", "state", "listening") // which fails for those of other kinds
	families(t, func(t *testing.T, f attachtest.Family) {
		r.connectAny(t, f)
		p := r.connectAny(t, f)
		raw, err := p.container.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var ti *unix.TCPInfo
		if e := raw.Control(func(fd uintptr) { ti, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil || err != nil {
			t.Fatal(e, err)
		}
		if got := r.flowOf(t, p).Path; got != netstack.PathStacked || ti.Total_retrans > 0 {
			t.Errorf("the flow is %s, with %d segments sent again, want %s and none", got, ti.Total_retrans, netstack.PathStacked)
		}
	})
}

// connectAny is connect for whichever path.
func (r *rig) connectAny(t testing.TB, f attachtest.Family) tcpPair {
	t.Helper()
	old := r.path
	defer func() { r.path = old }()
	r.path = ""
	return r.connect(t, f)
}

func (p tcpPair) close() {
	p.container.Close()
	p.peer.Close()
}

// TestSpliceHarmlessMeddling does what must not matter.
func TestSpliceHarmlessMeddling(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	for _, tt := range []struct{ name, do string }{
		{"flush ruleset", "nft flush ruleset"},
		{"strict reverse path", "echo 1 > /proc/sys/net/ipv4/conf/tap0/rp_filter; echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := spliced(t)
			live := map[string]tcpPair{}
			for _, f := range attachtest.Families() {
				live[f.Name] = r.connect(t, f)
			}
			r.c.Run(t, "sh", "-c", tt.do)
			families(t, func(t *testing.T, f attachtest.Family) {
				exchange(t, live[f.Name].container, live[f.Name].peer)
				exchange(t, live[f.Name].peer, live[f.Name].container)
				for range 5 {
					r.speaksBy(t, f, "")
				}
			})
		})
	}
}

// TestSpliceLiveFlows has connections under way while the container undoes what
// they need: they go on when that is mended.
func TestSpliceLiveFlows(t *testing.T) {
	for _, tt := range []struct{ name, undo, mend string }{
		{"routing rule", "ip rule del pref 1; ip -6 rule del pref 1", "true"},
		{"routes", fmt.Sprintf("ip route flush table %[1]s; ip -6 route flush table %[1]s", routeTable), "true"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			families(t, func(t *testing.T, f attachtest.Family) {
				r := spliced(t)
				p := r.connect(t, f)
				pingpong(t, p)
				r.c.Exec(t, "sh", "-ec", tt.undo)
				sent := make(chan error, 1)
				go func() { sent <- transfer(p.container, p.peer, 1<<20) }()
				r.c.Exec(t, "sh", "-ec", tt.mend)
				if err := <-sent; err != nil {
					t.Error(err)
				}
				exchange(t, p.peer, p.container)
			})
		})
	}
}

// TestSpliceFilter has the container's own stateful filter, which takes the SYN
// that comes back for one from outside.
func TestSpliceFilter(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	r := start(t, nil)
	r.c.Exec(t, "nft", `add table inet f {
	chain in { type filter hook input priority 0; policy drop; iif lo accept; ct state established,related accept; meta l4proto ipv6-icmp accept; }
	chain out { type filter hook output priority 0; policy drop; ct state new,established,related accept; meta l4proto ipv6-icmp accept; }
}`)
	families(t, func(t *testing.T, f attachtest.Family) {
		for range 5 {
			r.speaksBy(t, f, "")
		}
	})
	r.noFlows(t)
}

// TestSpliceFilterFromTheStart is the same with a filter that was there first.
func TestSpliceFilterFromTheStart(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	w, c := attachtest.Open(t), attachtest.NewContainer(t)
	c.Exec(t, "nft", `add table inet f {
	chain in { type filter hook input priority 0; policy drop; ct state established,related accept; meta l4proto ipv6-icmp accept; }
}`)
	r := &rig{World: w, c: c, plan: newPlan(t), log: &syncBuffer{}}
	r.open(t, nil)
	families(t, func(t *testing.T, f attachtest.Family) {
		for range 5 {
			r.speaksBy(t, f, netstack.PathStacked)
		}
	})
	attachtest.Eventually(t, "the log says for both families that TCP is stacked", func() bool { return r.logged(saysStacked) >= 2 })
}

// TestSpliceRefused has a container that keeps our table's name for itself.
func TestSpliceRefused(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	w, c := attachtest.Open(t), attachtest.NewContainer(t)
	// nft holds what it owns until it ends.
	hold := c.Start(t, "sh", "-c", "(echo 'add table ip slipway-tap0 { flags owner; }'; echo 'list tables'; exec sleep 1000) | nft -i")
	hold.WaitLine(t, "table ip slipway-tap0")
	r := &rig{World: w, c: c, plan: newPlan(t), log: &syncBuffer{}}
	r.open(t, nil)
	families(t, func(t *testing.T, f attachtest.Family) { r.speaksBy(t, f, netstack.PathStacked) })
	if log := r.log.String(); !strings.Contains(log, saysNoPath) || !strings.Contains(log, "slipway-tap0") {
		t.Error("the log does not say why TCP is stacked")
	}
}

// TestSpliceCapture stacks new connections while frames are captured.
func TestSpliceCapture(t *testing.T) {
	r := spliced(t)
	check(t, r.s.StartCapture(&syncBuffer{}))
	families(t, func(t *testing.T, f attachtest.Family) { r.speaksBy(t, f, netstack.PathStacked) })
	check(t, r.s.StopCapture())
	families(t, func(t *testing.T, f attachtest.Family) { r.speaksBy(t, f, netstack.PathSpliced) })
}
