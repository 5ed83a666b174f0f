// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"time"
)

// rssSlack is by how much the helper's memory may have grown over a soak, in KiB.
// Under load the heap is twice what is live, and gVisor pools packet buffers; at
// rest Go's collector runs every two minutes and gives most of it back (in KiB: a
// helper of 12 700 had 24 000 under load, 16 300 four minutes later). What stays does
// not grow with the load's length, while a leak of 170 bytes for each of 50 000
// connections is more.
const rssSlack = 8 << 10

// What the load makes in soakPeriod. It scales with the soak's length.
const (
	soakPeriod     = 10 * time.Minute
	soakConns      = 54_000 // short TCP connections, 90 a second
	soakConnsLeast = 50_000 // of which so many must be completed
	soakUDP        = 3_000  // UDP exchanges, each from a port of its own
	soakDNS        = 6_000  // DNS queries
)

// share scales what is made in soakPeriod to d, rounded up.
func share(n int, d time.Duration) int {
	return int(math.Ceil(float64(n) * float64(d) / float64(soakPeriod)))
}

// A soakCheck is one thing that a soak proves or refutes.
type soakCheck struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

// judge compares the helper at rest after a soak of length d with itself before.
func judge(d time.Duration, before, after soakSample) []soakCheck {
	var checks []soakCheck
	add := func(name string, ok bool, got, want string) {
		checks = append(checks, soakCheck{Name: name, OK: ok, Got: got, Want: want})
	}
	same := func(name string, b, a int) { add(name, a == b, fmt.Sprint(a), fmt.Sprintf("%d as before", b)) }
	least := func(name string, got int64, want int) {
		add(name, got >= int64(want), fmt.Sprint(got), fmt.Sprintf("at least %d", want))
	}
	c := after.Counts
	failed := fmt.Sprint(c.Failed)
	if c.FirstError != "" {
		failed += ", the first: " + c.FirstError
	}
	add("failed exchanges", c.Failed == 0, failed, "0")
	least("short TCP connections", c.Conns, share(soakConnsLeast, d))
	least("UDP exchanges", c.UDP, share(soakUDP, d))
	least("DNS queries", c.DNS, share(soakDNS, d))
	least("bytes of long streams", c.Bytes, 1)
	add("flows", after.Flows() == 0, fmt.Sprintf("TCP %d, UDP %d, other %d", after.TCP, after.UDP, after.Other), "none")
	same("open files", before.FDs, after.FDs)
	same("goroutines", before.Goroutines, after.Goroutines)
	add("memory (RSS)", after.RSS <= before.RSS+rssSlack, fmt.Sprintf("%d KiB", after.RSS), fmt.Sprintf("at most %d + %d", before.RSS, rssSlack))
	return checks
}

// passed reports whether all checks are.
func passed(checks []soakCheck) bool {
	for _, c := range checks {
		if !c.OK {
			return false
		}
	}
	return len(checks) > 0
}
