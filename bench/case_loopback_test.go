// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// TestLoopback measures against the host's loopback, where nobody listens for the
// peer's network.
func TestLoopback(t *testing.T) {
	needUserNamespaces(t)
	dir := openDir(t)
	r, printed := runBench(t, "-cases ^loopback/ -duration 100ms -repeat 1 -mtu 1500 -cc reno -user nobody -subjects direct,slipway=slipway@"+slipwayFor(t, dir))
	if len(r.Records) != 2*len(loopbackCases()) {
		t.Errorf("%d records, want 2 of each case", len(r.Records))
	}
	for _, rec := range r.Records {
		if rec.Err != "" && rec.MissingFrom == "" || len(rec.Values) == 0 {
			t.Errorf("%s %s: no values: %s", rec.Subject, rec.Case, rec.Err)
		}
		if command := strings.Join(rec.Command, " "); rec.Subject != directName && !strings.Contains(command, "--host-loopback "+planGateway4) {
			t.Errorf("%s was started without a way to the loopback: %s", rec.Subject, command)
		}
	}
	if t.Failed() {
		t.Log(printed)
	}
}

func TestLoopbackAddr(t *testing.T) {
	for name, tool := range tools() {
		if tool.argv == nil {
			continue // it is no network helper
		}
		for _, family := range []int{4, 6} {
			addr, err := loopbackAddr(name, family)
			if family == 6 && tool.ready == readyByAnswer {
				// RootlessKit's networks are run as its users do: without IPv6.
				if err == nil {
					t.Errorf("%s: address %v, want an error", name, addr)
				}
				continue
			}
			if err != nil || addr.Is4() != (family == 4) {
				t.Errorf("%s: address %v of IPv%d, error %v", name, addr, family, err)
			}
		}
	}
	if addr, err := loopbackAddr(directName, 4); err != nil || !addr.IsLoopback() {
		t.Errorf("direct: %v, error %v, want the loopback itself", addr, err)
	}
	if addr, err := loopbackAddr("vpnkit", 4); err == nil {
		t.Errorf("an unknown tool reaches the loopback at %s", addr)
	}
}
