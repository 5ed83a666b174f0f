// SPDX-License-Identifier: Apache-2.0

// Package pasta speaks the command line of pasta(1): it reads one, and turns it into the
// configuration of a session.
//
// # Theory of operation
//
// Podman since version 5, Buildah, RootlessKit and people start pasta by that command
// line, wait for it to leave the foreground, and read nothing but its exit code and what
// it complains of. This package is what they meet in its place.
//
//	arguments ── Parse ──> Options ─┬─ Options.Resolve ──> attach.Config ──> attach.New
//	            ReadHost ──> Host ──┘
//
// Parse is getopt_long(3), in which options end at the first operand, and the checks of
// single values. ReadHost asks the kernel for addresses and default routes. Resolve
// brings the two together, as pasta does: the container gets the address and the gateway
// of the host's interface with the default route, by the name of that, unless others are
// given. So its network is one that the host is in (tap.Family.Shared). Only one address
// of each family is copied, and of the routes only the default one, since everything
// comes to us by that. A host without a default route gives the container addresses of
// one link only.
//
// What is published (-t, -u) are rules of package portfwd; the words all and auto, and
// lists that only leave ports out, follow what listens. What of the host's loopback the
// container has at its own (-T) are attach.HostPort.
//
// Nothing here runs, opens or writes anything: to daemonize, to make namespaces and to
// keep the log is the program's. Where what happens is meant to differ from pasta,
// docs/compat.md has the list.
package pasta
