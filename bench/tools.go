// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// defaultSlipway is where `make` puts the helper, relative to the repository.
const defaultSlipway = "bin/slipway"

// directName is the subject that has no helper.
const directName = "direct"

// A tool is a kind of helper: how its users start it.
type tool struct {
	binary  string   // looked up in PATH where the subject names no path
	version []string // arguments that print the version
	ready   readyKind
	// needs names a tool that this one runs itself; empty if there is none.
	needs string
	// help are arguments that print the flags. A program whose help lacks the word has,
	// or a flag that the subject asks for, is too old. Both may be empty.
	help []string
	has  string
	// target is how many of the last arguments name the container: a user's own
	// arguments go before them.
	target int
	// argv returns the arguments in order of preference. Later ones stand in where
	// a version or a machine does not take the earlier ones.
	argv func(j job) [][]string
	// publishFlag is the flag in argv that publishes a port, publish asks the running
	// helper for one. A tool has at most one of them.
	publishFlag string
	publish     func(ctx context.Context, j job, p publication) error
	// engine is what it does as a container engine; nil if it is none. A tool without argv
	// is no network helper.
	engine *engine
}

// A job says what a helper is to be started for.
type job struct {
	MTU     int           // bytes
	PID     int           // of a process in the container; unset for readyByAnswer
	Dir     string        // the helper's own, empty at its start
	Program string        // this program, as a file that the plain user can execute
	Publish []publication // the ports to publish
	// StartLimit bounds the time until the helper is ready.
	StartLimit time.Duration
	// HostLoopback lets the container reach the host's loopback; see loopbackAddr.
	HostLoopback bool
}

// Files in a job's directory.
func (j job) pidFile() string  { return filepath.Join(j.Dir, "pid") }
func (j job) api() string      { return filepath.Join(j.Dir, "api") }
func (j job) stateDir() string { return filepath.Join(j.Dir, "state") }

// noLoopback returns the flag that keeps the container from the host's loopback,
// unless the job wants it there.
func (j job) noLoopback(flag string) []string {
	if j.HostLoopback {
		return nil
	}
	return []string{flag}
}

// A readyKind is how a helper says that the network is up.
type readyKind int

// The ways to say it.
const (
	readyByFD   readyKind = iota // it writes to descriptor readyFD
	readyByExit                  // it goes into the background: the parent exits with 0
	// It makes the container itself and runs the endpoint in it, which answers.
	readyByAnswer
)

// readyFD is the number of the descriptor that a helper writes to: the first of
// exec.Cmd's ExtraFiles.
const readyFD = 3

// tools returns the kinds of subject by name. "direct" is no tool: it is the path
// without any helper.
func tools() map[string]tool {
	return map[string]tool{
		"slirp4netns": {
			binary: "slirp4netns", version: []string{"--version"}, ready: readyByFD, target: 2,
			argv: slirpArguments, publish: slirpPublish,
		},
		"pasta": {
			binary: "pasta", version: []string{"--version"}, ready: readyByExit, target: 1,
			argv: pastaArguments, publishFlag: "-t",
		},
		"rootlesskit": {
			binary: "rootlesskit", version: []string{"--version"}, ready: readyByAnswer, target: 2,
			needs: "slirp4netns", publish: rootlesskitPublish,
			argv: func(j job) [][]string {
				return rootlesskitArguments(j, "--net=slirp4netns", "--slirp4netns-sandbox=auto", "--slirp4netns-seccomp=auto")
			},
		},
		// Not gvproxy, which virtual machines use: containers get this network stack by way
		// of RootlessKit, as Docker's rootless mode does since Engine 29.5.
		"gvisor-tap-vsock": {
			binary: "rootlesskit", version: []string{"--version"}, ready: readyByAnswer, target: 2,
			help: []string{"--help"}, has: "gvisor-tap-vsock", publish: rootlesskitPublish,
			argv: func(j job) [][]string { return rootlesskitArguments(j, "--net=gvisor-tap-vsock") },
		},
		"slipway": {
			binary: defaultSlipway, version: []string{"version"}, ready: readyByFD, target: 1,
			help: []string{"attach", "--help"},
			argv: slipwayArguments, publishFlag: "--publish", engine: &slipwayEngine,
		},
		"bwrap":  {binary: "bwrap", version: []string{"--version"}, engine: &bwrapEngine},
		"crun":   {binary: "crun", version: []string{"--version"}, engine: &crunEngine},
		"runc":   {binary: "runc", version: []string{"--version"}, engine: &runcEngine},
		"podman": {binary: "podman", version: []string{"--version"}, engine: &podmanEngine},
		"umoci":  {binary: "umoci", version: []string{"--version"}, engine: &umociEngine, needs: "skopeo"},
		"skopeo": {binary: "skopeo", version: []string{"--version"}}, // umoci's
	}
}

// toolNames lists what a subject may be, for messages.
func toolNames() string {
	return directName + ", " + strings.Join(slices.Sorted(maps.Keys(tools())), ", ")
}

// slirpArguments are those of Podman (containers/common, libnetwork/slirp4netns),
// which asks for the API socket where the helper is to publish ports.
// --disable-host-loopback has a price there: the container's answers to a UDP client
// on the host's loopback go to the gateway's address, and are dropped.
func slirpArguments(j job) [][]string {
	base := concat(j.noLoopback("--disable-host-loopback"),
		[]string{fmt.Sprintf("--mtu=%d", j.MTU), "--enable-ipv6", "-c", "-r", strconv.Itoa(readyFD)})
	if len(j.Publish) > 0 {
		base = append(base, "--api-socket", j.api())
	}
	target := []string{strconv.Itoa(j.PID), "tap0"}
	return [][]string{
		concat(base, []string{"--enable-sandbox", "--enable-seccomp"}, target),
		concat(base, []string{"--enable-seccomp"}, target),
		concat(base, target),
	}
}

// pastaArguments are those of Podman (containers/common, libnetwork/pasta), which
// is inside the user namespace already and so gives no --userns.
func pastaArguments(j job) [][]string {
	return [][]string{append(pastaFlags(j), "--userns", fmt.Sprintf("/proc/%d/ns/user", j.PID), "--netns", fmt.Sprintf("/proc/%d/ns/net", j.PID))}
}

// pastaFlags are pasta's arguments but for the namespaces.
func pastaFlags(j job) []string {
	all := []string{"--config-net"}
	for _, kind := range []struct{ flag, proto string }{{"-t", "tcp"}, {"-u", "udp"}} {
		some := false
		for _, p := range j.Publish {
			if p.Proto == kind.proto {
				all = append(all, kind.flag, fmt.Sprintf("%[1]d-%[1]d:%[2]d-%[2]d", p.Port, p.Port))
				some = true
			}
		}
		if !some {
			all = append(all, kind.flag, "none")
		}
	}
	all = concat(all, []string{"-T", "none", "-U", "none"}, j.noLoopback("--no-map-gw"))
	return append(all, "--dns-forward", pastaDNS, "--quiet", "-m", strconv.Itoa(j.MTU), "-P", j.pidFile())
}

// rootlesskitArguments are those of Docker's rootless mode (moby, contrib's
// dockerd-rootless.sh), whose port driver is builtin with either network.
func rootlesskitArguments(j job, network ...string) [][]string {
	return [][]string{concat(
		[]string{"--state-dir=" + j.stateDir()}, network,
		[]string{fmt.Sprintf("--mtu=%d", j.MTU)}, j.noLoopback("--disable-host-loopback"),
		[]string{"--port-driver=builtin", "--copy-up=/etc", "--copy-up=/run", "--propagation=rslave"},
		[]string{j.Program, stageEndpoint},
	)}
}

func slipwayArguments(j job) [][]string {
	all := []string{"attach", "--mtu", strconv.Itoa(j.MTU), "--ready-fd", strconv.Itoa(readyFD), "--api", j.api()}
	if j.HostLoopback {
		all = append(all, "--host-loopback", planGateway4, "--host-loopback", planGateway6)
	}
	for _, p := range j.Publish {
		all = append(all, "--publish", fmt.Sprintf("%s:%d/%s", p.host(), p.Port, p.Proto))
	}
	return [][]string{append(all, strconv.Itoa(j.PID))}
}
