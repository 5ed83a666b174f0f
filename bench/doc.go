// SPDX-License-Identifier: Apache-2.0

// Command bench compares slipway with the network helpers that people use today,
// in one run, on one machine, with nothing tuned for any of them.
//
// # Theory of operation
//
// The drawing at the top of topology.go shows what is built. Four kinds of
// process take part, all of them this same binary, started again with another
// first argument:
//
//   - the front is what the user starts. It reads the flags, finds the subjects,
//     starts the stage, shows progress, prints the table and writes the JSON. It
//     is the only process that touches the file system.
//   - the stage owns a user namespace that maps nothing but the plain user. It
//     makes the network namespaces "host" and "peer", anew for every step, and runs
//     the cases. It holds capabilities inside its own user namespace only.
//   - an endpoint makes the traffic: one runs in "peer", one in the container. It
//     obeys requests that come as JSON lines on its standard input.
//   - the subject (the helper under test) runs in "host" as the plain user, with
//     no capability at all: what a user's own helper has.
//
// When root starts the bench, it becomes a plain user first (-user). Root would
// hide exactly the differences that matter: what a helper may do in a namespace
// it does not own, its resource limits, and the paths it falls back to.
//
// A run is a list of steps. One step is one case, at one MTU, congestion control
// and address family, for one subject, once. The subjects take turns inside each
// case (A B C A B C …), so that a slow drift of the machine touches all of them.
// Each step gets new namespaces, a new container, a new helper and new endpoints,
// and takes them down again: no subject profits or suffers from what ran before. Throughput is
// counted by the receiver, after a warm-up, over a window.
//
// The cases loopback/… have their server at 127.0.0.1 of "host" instead of in
// "peer", and each subject is started in the way of its users who want to reach it.
//
// Nothing is skipped in silence: a subject that is not installed, does not start
// or breaks leaves a record with the reason, which the table shows in place of
// the number. What the machine lacks as a whole (the tun device, a congestion
// control, iperf3, user namespaces) is found out before the first step (gap.go);
// each cell that it costs says so. A helper that fails again and again is given up
// (giveup.go), since the time that it takes to fail is time of the others.
//
// A result that cannot be is flagged (plausible.go). A repeat with an impossible
// value is shown and left out of the median; a cell that is doubtful as a whole has
// no ratios and is nobody's "best peer".
//
// The scheduler places the processes, as it does for users, unless -pin ties them to
// CPUs (pin.go). Where they might run, and what makes the machine a bad one to
// measure on, heads the table and is in the JSON.
//
// With -soak nothing is measured. One slipway carries a mixed, moderate load for
// long: streams that move both ways and are compared byte by byte, short
// connections, UDP from many ports, DNS. Then the stage waits until every flow is
// gone (a UDP mapping lasts 300 s without traffic, RFC 4787 §4.3) and compares open
// files, goroutines, flows and memory with those before.
//
// With -readme nothing is run: results kept before become the table in README.md.
//
// Cleaning up: every process gets a signal when the thread that started it ends
// (PR_SET_PDEATHSIG), the stage adopts helpers that go into the background
// (PR_SET_CHILD_SUBREAPER) and ends them, and the namespaces live only as long as
// the processes in them. On SIGINT or SIGTERM the front stops the stage and reports
// what was measured so far. Even a killed front leaves nothing: the stage gets
// SIGTERM. Only a killed stage leaves a helper in the background behind.
package main
