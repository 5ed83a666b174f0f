// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestRootlessKit has RootlessKit start the real slirp4netns and ours, by the flags of
// its users.
func TestRootlessKit(t *testing.T) {
	attachtest.NeedTools(t, "slirp4netns", "rootlesskit", "rootlessctl", "nsenter", "ip", "ping")
	attachtest.Open(t)
	compare(t, kitScenarios(t))
}

// dockerFlags are those of Docker's rootless mode (moby, contrib's dockerd-rootless.sh).
func dockerFlags() []string {
	return []string{
		"--mtu=65520", "--slirp4netns-sandbox=auto", "--slirp4netns-seccomp=auto", "--disable-host-loopback",
		"--port-driver=builtin", "--copy-up=/etc", "--copy-up=/run", "--propagation=rslave",
	}
}

// detached is a flag of RootlessKit 2 and later, that Docker gives where it is known.
const detached = "--detach-netns"

// kitScenarios are ways to start RootlessKit. A flag that a version lacks is left out.
func kitScenarios(t *testing.T) []scenario {
	const sandbox, seccomp, byHelper, byKit = "--slirp4netns-sandbox=", "--slirp4netns-seccomp=", "--port-driver=slirp4netns", "--port-driver=builtin"
	all := []scenario{
		kitScenario("plain"),
		kitScenario("auto, ports by slirp4netns", sandbox+"auto", seccomp+"auto", byHelper),
		kitScenario("must, ports by slirp4netns", sandbox+"true", seccomp+"true", byHelper, "--disable-host-loopback"),
		kitScenario("auto, builtin ports", sandbox+"auto", seccomp+"auto", byKit),
		kitScenario("must, builtin ports", sandbox+"true", seccomp+"true", byKit, "--mtu=1500", "--cidr=10.7.0.0/16", "--ifname=eth7"),
		kitScenario("Docker", dockerFlags()...),
		{name: "IPv6", observe: kitIPv6},
		{
			name: "two ports for one UDP port", intended: "two ports of the host may lead to one UDP port of the container",
			theirs: "10.97.0.2 silence", ours: "10.97.0.2 10.97.0.2",
			observe: func(t *testing.T, s subject) string {
				w, host := attachtest.Open(t), attachtest.Families()[0].HostAddr
				flags, seen := []string{byHelper}, []string{}
				for _, port := range []string{kitPort, kitPortAsked} {
					flags = append(flags, fmt.Sprintf("--publish=%s:%s:80/udp", host, port))
				}
				greet(t, startKit(t, s, flags...).c, netip.MustParseAddrPort("0.0.0.0:80"))
				for _, port := range []string{kitPort, kitPortAsked} {
					seen = append(seen, visit(t, w.Peer, "udp", netip.MustParseAddrPort(host.String()+":"+port)))
				}
				slices.Sort(seen) // RootlessKit publishes them in any order
				return strings.Join(seen, " ")
			},
		},
		{
			name: "sandbox", intended: "Started outside of it, it keeps none",
			theirs:  "CapPrm: 0000000000000400 CapEff: 0000000000000400 NoNewPrivs: 1 Seccomp: 2",
			ours:    "CapPrm: 0000000000000000 CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2",
			observe: kitSandbox,
		},
	}
	if help := finish(t, exec.Command("rootlesskit", "--help")); strings.Contains(help.stdout, detached) {
		all = append(all, kitScenario("Docker, detached", append(dockerFlags(), detached)...))
	}
	return all
}

// Ports of the host that RootlessKit publishes: at its start, and when it is asked.
const (
	kitPort      = "8080"
	kitPortAsked = "8081"
)

// kitScenario is all that there is to see of a RootlessKit's network.
func kitScenario(name string, flags ...string) scenario {
	return scenario{name: name, observe: func(t *testing.T, s subject) string {
		f := attachtest.Families()[0]
		w := attachtest.Open(t)
		ported := slices.ContainsFunc(flags, func(f string) bool { return strings.HasPrefix(f, "--port-driver=") })
		all := slices.Clone(flags)
		for _, proto := range []string{"tcp", "udp"} {
			if ported {
				all = append(all, fmt.Sprintf("--publish=%s:%s:80/%s", f.HostAddr, kitPort, proto))
			}
		}
		k := startKit(t, s, all...)
		var seen bytes.Buffer
		fmt.Fprintln(&seen, addresses(t, k.c), k.c.Exec(t, "cat", "/etc/resolv.conf"))
		if n := len(k.helpers(t)); n != 1 {
			t.Errorf("there are %d processes of the helper, want 1", n)
		}
		k.visits(t, &seen, w)
		if ported {
			k.visited(t, &seen, w)
		}
		fmt.Fprintln(&seen, "end", k.end(t))
		return seen.String()
	}}
}

// A kit is a running RootlessKit.
type kit struct {
	helper string // the path of a link to the helper, by which its processes are known
	cmd    *exec.Cmd
	stderr *lines
	dir    string
	c      *attachtest.Place // the container
}

// startKit starts RootlessKit with the subject for its helper. Its container does what
// the test says. The test's end ends it.
func startKit(t *testing.T, s subject, flags ...string) *kit {
	t.Helper()
	k := &kit{helper: linkTo(t, s.path, "slirp4netns"), stderr: newLines(), dir: t.TempDir()}
	k.cmd = exec.Command("rootlesskit", slices.Concat([]string{
		"--state-dir=" + k.state(""), "--net=slirp4netns", "--slirp4netns-binary=" + k.helper,
	}, flags)...)
	if slices.Contains(flags, detached) {
		// The command is left in the host's network.
		k.cmd.Args = append(k.cmd.Args, "nsenter", "--net="+k.state("netns"))
	}
	k.cmd.Env = append(os.Environ(), "PATH="+idTools(t)+":"+os.Getenv("PATH"))
	k.cmd.Stderr = k.stderr
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%q wrote:\n%s", k.cmd.Args, k.stderr)
		}
	})
	k.c = attachtest.NewPlace(t, k.cmd)
	return k
}

// state is a file in RootlessKit's directory, or that itself.
func (k *kit) state(file string) string { return filepath.Join(k.dir, "state", file) }

// idTools makes a directory for PATH with what RootlessKit maps users by. The real
// programs are set-user-ID root, whom the tests' namespace does not have; there is one
// user to map.
func idTools(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range map[string]string{
		"newuidmap": `echo "$2 $3 $4" >/proc/$1/uid_map`,
		// Who lacks CAP_SETGID may map its group only after this (user_namespaces(7)).
		"newgidmap": `echo deny >/proc/$1/setgroups && echo "$2 $3 $4" >/proc/$1/gid_map`,
		// An empty range: there are no subordinate ids.
		"getsubids": `echo "0: $1 1 0"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// visits goes from the container to the peer, to the host's loopback by the gateway,
// and to a port at which nobody listens.
func (k *kit) visits(t *testing.T, seen *bytes.Buffer, w *attachtest.World) {
	t.Helper()
	f := attachtest.Families()[0]
	gateway := netip.MustParseAddr(regexp.MustCompile(`default via (\S+)`).FindStringSubmatch(k.c.Exec(t, "ip", "-4", "route"))[1])
	tcp, udp := greet(t, w.Peer, netip.AddrPortFrom(f.PeerAddr, 0))
	loop, _ := greet(t, w.Host, netip.AddrPortFrom(f.Loopback, 0))
	fmt.Fprintln(seen, "peer", visit(t, k.c, "tcp", tcp), visit(t, k.c, "udp", udp))
	fmt.Fprintln(seen, "nobody", visit(t, k.c, "tcp", netip.AddrPortFrom(f.PeerAddr, 1)))
	fmt.Fprintln(seen, "gateway", visit(t, k.c, "tcp", netip.AddrPortFrom(gateway, loop.Port())), ping(t, k.c, gateway))
}

// visited has the peer come to the container by a port that is published from the
// start, and by one that rootlessctl(1) publishes, until it does not any more.
func (k *kit) visited(t *testing.T, seen *bytes.Buffer, w *attachtest.World) {
	t.Helper()
	host := attachtest.Families()[0].HostAddr
	// Two ports of the container: the real one sends answers from one port by one of the
	// host's only.
	for _, addr := range []string{"0.0.0.0:80", "0.0.0.0:81"} {
		greet(t, k.c, netip.MustParseAddrPort(addr))
	}
	come := func(port string) string {
		to := netip.MustParseAddrPort(host.String() + ":" + port)
		return visit(t, w.Peer, "tcp", to) + " " + visit(t, w.Peer, "udp", to)
	}
	fmt.Fprintln(seen, "published", come(kitPort))
	for _, proto := range []string{"tcp", "udp"} {
		fmt.Fprintln(seen, "added", k.ctl(t, "add-ports", fmt.Sprintf("%s:%s:81/%s", host, kitPortAsked, proto)))
	}
	fmt.Fprintln(seen, "listed", sorted(k.ctl(t, "list-ports", "--json")))
	fmt.Fprintln(seen, "asked", come(kitPortAsked))
	inUse := k.ctl(t, "add-ports", fmt.Sprintf("%s:%s:81/tcp", host, kitPortAsked))
	fmt.Fprintln(seen, "in use", inUse)
	fmt.Fprintln(seen, "removed", k.ctl(t, "remove-ports", "3"), k.ctl(t, "remove-ports", "4"))
	fmt.Fprintln(seen, "after that", visit(t, w.Peer, "tcp", netip.MustParseAddrPort(host.String()+":"+kitPortAsked)), come(kitPort))
}

// ctl runs rootlessctl and returns what it says.
func (k *kit) ctl(t *testing.T, args ...string) string {
	t.Helper()
	got := finish(t, exec.Command("rootlessctl", append([]string{"--socket=" + k.state("api.sock")}, args...)...))
	return fmt.Sprintf("%s code %d", got.stdout, got.code)
}

// sorted has the lines in an order: RootlessKit keeps ports by number in a map.
func sorted(text string) string {
	return strings.Join(slices.Sorted(strings.Lines(text)), "")
}

// helpers returns the ids of the helper's processes.
func (k *kit) helpers(t *testing.T) []string {
	t.Helper()
	return processesOf(t, k.helper)
}

// end has the container's command end, and returns what is left when RootlessKit has
// ended, too.
func (k *kit) end(t *testing.T) string {
	t.Helper()
	k.c.Close()
	var left []string
	for end := time.Now().Add(attachtest.Patience); len(k.helpers(t)) > 0; {
		if time.Now().After(end) {
			t.Fatalf("the helper is still there: %q", k.helpers(t))
		}
	}
	err := filepath.WalkDir(k.dir, func(path string, d fs.DirEntry, err error) error {
		if path != k.dir {
			left = append(left, strings.TrimPrefix(path, k.dir))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s, left %q", k.cmd.ProcessState, left)
}

// kitIPv6 goes to the peer by IPv6, with the address that a router gave.
func kitIPv6(t *testing.T, s subject) string {
	w, f := attachtest.Open(t), attachtest.Families()[1]
	k := startKit(t, s, append(dockerFlags(), "--ipv6")...)
	address := address6(t, k.c).String()
	tcp, udp := greet(t, w.Peer, netip.AddrPortFrom(f.PeerAddr, 0))
	return fmt.Sprint(address[:len("fd00::")], k.c.Exec(t, "cat", "/etc/resolv.conf"), visit(t, k.c, "tcp", tcp), " ", visit(t, k.c, "udp", udp), " ",
		visit(t, k.c, "tcp", netip.AddrPortFrom(f.PeerAddr, 1)), " ", visit(t, k.c, "tcp", netip.MustParseAddrPort("[fd00::2]:9")), k.end(t))
}

// kitSandbox is what the kernel says of a helper in its sandbox. A bounding set means
// nothing under no_new_privs.
func kitSandbox(t *testing.T, s subject) string {
	pids := startKit(t, s, "--slirp4netns-sandbox=true", "--slirp4netns-seccomp=true").helpers(t)
	if len(pids) != 1 {
		t.Fatalf("the helper's processes are %q, want one", pids)
	}
	return regexp.MustCompile(`CapBnd: \S+ `).ReplaceAllString(kernelSays(t, pids[0]), "")
}
