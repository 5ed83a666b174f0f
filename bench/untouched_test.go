// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A networkState is what a process can see and change of a network namespace.
type networkState struct {
	Links, Addrs, Routes, Rules []string
	Sysctls                     map[string]string
}

// lookAtNetwork reads the state of the namespace that the test runs in.
func lookAtNetwork(t *testing.T) networkState {
	t.Helper()
	var s networkState
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		a := l.Attrs()
		s.Links = append(s.Links, fmt.Sprintf("%d %s %s MTU %d %s %s", a.Index, a.Name, l.Type(), a.MTU, a.HardwareAddr, a.Flags))
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range addrs {
			s.Addrs = append(s.Addrs, fmt.Sprintf("%s %s", a.Name, addr.IPNet))
		}
	}
	all := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, all, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		s.Routes = append(s.Routes, fmt.Sprintf("%s congctl %s", r, r.Congctl))
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		s.Rules = append(s.Rules, r.String())
	}
	for _, list := range [][]string{s.Links, s.Addrs, s.Routes, s.Rules} {
		slices.Sort(list)
	}
	s.Sysctls = networkSysctls(t)
	return s
}

// networkSysctls reads the settings below /proc/sys/net. Those that count something
// are left out, and those that this user may not read.
func networkSysctls(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_count") {
			return nil
		}
		if b, err := os.ReadFile(path); err == nil {
			all[path] = string(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestMachineIsLeftAlone runs steps of every kind of set-up and compares the network
// that the bench was started in, before and after.
func TestMachineIsLeftAlone(t *testing.T) {
	needUserNamespaces(t)
	dir := openDir(t)
	before := lookAtNetwork(t)
	if len(before.Links) == 0 || len(before.Sysctls) == 0 {
		t.Fatalf("nothing to compare: %d links, %d settings", len(before.Links), len(before.Sysctls))
	}
	r, printed := runBench(t, "-cases ^tcp/connect/16$|^loopback/connect/16$ -duration 100ms -repeat 1 -mtu 1500 -cc reno,cubic -family 4,6 -user nobody -subjects direct,slipway@"+slipwayFor(t, dir))
	for _, c := range r.Cells {
		if c.Missing != "" {
			t.Errorf("%s %s: missing for %q", c.Subject, c.Row.Case, c.Missing)
		}
	}
	if t.Failed() {
		t.Log(printed)
	}
	if diff := cmp.Diff(before, lookAtNetwork(t)); diff != "" {
		t.Errorf("the machine's own network (-before +after):\n%s", diff)
	}
}

// insideVar is set for the test below where it runs in namespaces of its own.
const insideVar = "BENCH_TEST_INSIDE"

// TestNetworkStateSeesChange proves that the comparison sees what a careless stage
// would do, in a network namespace of its own.
func TestNetworkStateSeesChange(t *testing.T) {
	if os.Getenv(insideVar) == "" {
		needUserNamespaces(t)
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNetworkStateSeesChange$")
		cmd.Env = append(os.Environ(), insideVar+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	before := lookAtNetwork(t)
	// It brings up lo, which gets its addresses and routes with that.
	if err := loopbackUp(); err != nil {
		t.Fatal(err)
	}
	if err := writeSysctl("net/ipv4/ping_group_range", "0 0"); err != nil {
		t.Fatal(err)
	}
	after := lookAtNetwork(t)
	if cmp.Equal(before.Links, after.Links) || cmp.Equal(before.Addrs, after.Addrs) ||
		cmp.Equal(before.Routes, after.Routes) || cmp.Equal(before.Sysctls, after.Sysctls) {
		t.Errorf("not every change is seen (-before +after):\n%s", cmp.Diff(before, after))
	}
}
