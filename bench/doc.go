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
//     no capability at all: what a user's own helper has. Most join a container that
//     the stage made; RootlessKit makes it and runs the endpoint in it, so that its
//     time to get ready includes that (see idtools.go for its users).
//
// When root starts the bench, it becomes a plain user first (-user). Root would
// hide exactly the differences that matter: what a helper may do in a namespace
// it does not own, its resource limits, and the paths it falls back to.
//
// A run is a list of steps. One step is one case, at one MTU, congestion control
// and address family, for one subject, once. In a round each subject has its turn at
// one case (A B C); every case has its first round before any has its second (A B C
// … A B C …), so that a slow drift of the machine touches all of them. A run that is
// short of time leaves out whole rounds, never one subject's turn, and never the
// first round of a case (budget.go).
// Each step gets new namespaces, a new container, a new helper and new endpoints,
// and takes them down again: no subject profits or suffers from what ran before.
// That takes a tenth of a second or more of a step. Throughput is counted by the
// receiver, after a warm-up (bulkWarmup), over a window.
//
// # Cases
//
//   - tcp/throughput: bulk data, at every MTU and congestion control of the plan, and
//     CPU seconds per gigabyte: the helper's own, and the whole machine's with
//     endpoints and softirqs. iperf3 checks those of one stream from outside.
//   - tcp/connect, tcp/roundtrip: short connections; ping-pong on one.
//   - udp: datagrams at six rates, each twice the one before, the same for every
//     subject; then two more to narrow down the highest that loses less than 1 %.
//     All steps are in the JSON.
//   - dns: queries by the resolver that the helper offers, which a container that the
//     helper makes finds in its resolv.conf. All helpers, and everything else in
//     "host", see one that names the bench's resolver in "peer", which is how their
//     users' helpers learn theirs (resolv.go).
//   - fairness: round trips over TCP and UDP while another flow moves bulk data.
//   - pull: what `podman pull` and a build do. The container gets an archive over HTTP
//     and unpacks it while it comes in, 512 MB for each second of -duration. A process
//     in namespaces of its own mounts what it unpacks onto: an overlay, or a tmpfs where
//     users may mount none; the detail in the JSON says which.
//   - pull/podman-run, pull/podman-build: a real `podman run` and `podman build` whose
//     container downloads an archive by curl and unpacks it by tar, 2 GB for each second
//     of -duration, onto the kernel's overlay in memory. Podman starts slirp4netns and
//     slipway by itself: run by network_cmd_path in containers.conf, build since it finds
//     them as the first slirp4netns in PATH. Podman 4.3 knows no pasta; that one serves a
//     network namespace which Podman is told to use (--network ns:PATH), as later versions
//     do by themselves. The limit is --network host. Time is that of the whole command;
//     before the container ends the peer holds it until the stage has seen which process
//     has the download's socket, and how much CPU time that one has used.
//   - memory, start: the helper at rest, under idle connections, and until it is ready.
//   - longpath: a path of 100 ms there and back. Two taps take the place of the veth
//     pair, and the stage carries every frame between them after 50 ms (relay.go).
//     The relay competes with all subjects for the cores alike. What it carries shows
//     in the case of 16 streams on the direct path; that it lost nothing is checked
//     after each step, since a lost frame is an error of the step. One stream is
//     limited by the buffers that the machine grants (net.ipv4.tcp_rmem and
//     tcp_wmem), for peers and slipway alike.
//
// A subject may be limited to some cases (-subjects NAME=TOOL#CASES). By default there
// are two slipways: one that splices TCP connections in the kernel where it can, and
// "stacked", which does not, in those cases in which that may make a difference. The
// path that slipway says its flows took is part of the proof. A quick run has fewer
// cases, and names those that it leaves out (quick.go).
//
// The cases loopback/… have their server at 127.0.0.1 of "host" instead of in
// "peer", and each subject is started in the way of its users who want to reach it.
//
// In the cases named publish the client is outside, at the peer or on the host's
// loopback, and the container serves on ports that the subject publishes, in the way
// in which Podman and Docker ask for them. The other cases run in them unchanged,
// with the ends exchanged.
//
// A number counts only where the subject made it. After each case the stage takes an
// open flow as the endpoint outside sees it, finds the host's end of it in
// /proc/net, and then the process that has this socket: it must be of the subject.
// Where the flows of a case are over already, as those of short connections, one
// more is opened for this. The CPU time that the helper used is the second proof.
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
// # Container engines
//
// With -launch container engines are measured instead of network helpers: slipway run,
// bubblewrap, crun, runc, Podman and, to unpack images, umoci. They map ranges of ids by newuidmap, which is
// set-user-ID root and of no use in the stage's user namespace. So the launch stage
// (launch_stage.go) is a plain user's process on the machine itself; what engines keep
// is below a directory of the run's own (launch_yard.go), which a process with all ids
// mapped removes at the end (launch_ids.go). Plan, turns, records, cells and reports are
// those of network helpers, but that rows have no conditions of a network.
//
//   - launch/start: from starting the engine until it has ended, for a program that is
//     made on the spot (launch_program.go). The line that it writes is known to nobody
//     else, so that the container has run where the line came out. Before the first
//     repeat it is held by its standard input and looked at from outside
//     (launch_proof.go): engines do not do the same, and the report says what each does.
//     Then strace counts the system calls of another run (launch_trace.go).
//   - launch/pull: an image of many files, made on the spot (launch_image.go), is pulled
//     from a registry of the stage's own (launch_registry.go) into a new store. That as
//     many files are on the disk then is the proof. What was deleted before is not to
//     slow it down (launch_forget.go).
//   - launch/keep-id: the first and the second run of it as the user itself. That the
//     container maps the user's id to itself, and that the image's files belong to the
//     container's root, is seen from outside.
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
// SIGTERM. Only a killed stage leaves a helper in the background behind, and a
// helper's directory for temporary files; of container engines, slipway-launch-* below
// -dir and XDG_RUNTIME_DIR or /dev/shm.
package main
