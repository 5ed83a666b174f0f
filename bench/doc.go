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
// Nothing is skipped in silence: a subject that is not installed, does not start
// or breaks leaves a record with the reason, which the table shows in place of
// the number. A result that cannot be is flagged and takes no part in "best peer".
//
// With -soak nothing is measured. One slipway carries a mixed, moderate load for
// long: streams that move both ways and are compared byte by byte, short
// connections, UDP from many ports, DNS. Then the stage waits until every flow is
// gone (a UDP mapping lasts 300 s without traffic, RFC 4787 §4.3) and compares open
// files, goroutines, flows and memory with those before.
//
// With -from or -readme nothing is run: results kept before are shown as text or as a
// page, or become the table in README.md and the page docs/benchmarks.md. Text, page
// and tables are made of one view of the cells (view.go), so that they cannot differ;
// a file is believed only as far as its schema goes (schema.go).
//
// Cleaning up: every process gets a signal when the thread that started it ends
// (PR_SET_PDEATHSIG), the stage adopts helpers that go into the background
// (PR_SET_CHILD_SUBREAPER) and ends them, and the namespaces live only as long as
// the processes in them. On SIGINT or SIGTERM the front stops the stage and reports
// what was measured so far. Even a killed front leaves nothing: the stage gets
// SIGTERM. Only a killed stage leaves a helper in the background behind.
package main
