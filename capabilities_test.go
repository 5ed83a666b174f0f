// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// The sets of /proc/PID/status, in hexadecimal (proc_pid_status(5)).
const (
	noCaps   = "0000000000000000"
	netAdmin = "0000000000001000" // 1 << CAP_NET_ADMIN
)

// A standing is what a helper is to the container's user namespace.
type standing struct {
	name  string
	caps  string // what it is to keep for the spliced path
	place func(*testing.T, *attachtest.World) *attachtest.Place
	start func(*testing.T, *attachtest.World, *attachtest.Place, ...string) running
}

// A running `slipway attach`, with whatever rights.
type running struct {
	pid  int
	log  *lines
	ends func(*testing.T) // after SIGTERM, with exit code 0
}

func standings() []standing {
	fresh := func(t *testing.T, _ *attachtest.World) *attachtest.Place { return attachtest.NewContainer(t) }
	split := func(t *testing.T, w *attachtest.World) *attachtest.Place { return w.Host.Split(t) }
	return []standing{
		{"its owner, outside", noCaps, fresh, startOwner},
		{"its root, inside", netAdmin, fresh, startRoot},
		{"privileged in the host's", netAdmin, split, startPrivileged},
	}
}

func startOwner(t *testing.T, _ *attachtest.World, c *attachtest.Place, flags ...string) running {
	h := attachTo(t, c, flags...)
	return h.running()
}

func (h *helper) running() running {
	return running{h.cmd.Process.Pid, h.stderr, func(t *testing.T) { h.exits(t, 0) }}
}

// startRoot starts it as Podman starts its network helper.
func startRoot(t *testing.T, _ *attachtest.World, c *attachtest.Place, flags ...string) running {
	argv := append([]string{"--user", "--preserve-credentials", "--target", strconv.Itoa(c.PID()), binary(t), "attach"}, flags...)
	h := &helper{cmd: exec.Command("nsenter", append(argv, c.NetNSPath())...), stderr: newLines(), ended: make(chan struct{})}
	h.cmd.Stderr = h.stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(h.ended); _ = h.cmd.Wait() }()
	t.Cleanup(func() { _ = h.cmd.Process.Kill(); <-h.ended })
	return h.running()
}

// startPrivileged starts it as root does who made a namespace by `ip netns add`.
func startPrivileged(t *testing.T, w *attachtest.World, c *attachtest.Place, flags ...string) running {
	pidfile := filepath.Join(t.TempDir(), "pid")
	argv := append([]string{binary(t), "attach", "--pidfile", pidfile}, flags...)
	p, log, ended := w.Host.Start(t, append(argv, c.NetNSPath())...), newLines(), make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(log, p.Out) // its end is the process'
	}()
	log.wait(t, "attached")
	b, err := os.ReadFile(pidfile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return running{pid, log, func(t *testing.T) {
		<-ended
		if code := p.Wait(t); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	}}
}

// TestCapabilities has each helper keep what it needs and no more, and change
// the container's rules with that.
func TestCapabilities(t *testing.T) {
	attachtest.NeedTools(t, "nft", "ip", "nsenter")
	for _, s := range standings() {
		for accel, caps := range map[string]string{"auto": s.caps, "off": noCaps} {
			t.Run(s.name+", "+accel, func(t *testing.T) {
				w := attachtest.Open(t)
				c := s.place(t, w)
				before := rules(t, c)
				h := s.start(t, w, c, "--accel", accel)
				path := map[string]string{"auto": "path=spliced", "off": "path=stacked"}[accel]
				h.log.wait(t, "attached", path)
				h.powers(t, caps)
				if accel == "auto" {
					if during := rules(t, c); strings.Count(during, "fwmark") != 2 || strings.Count(during, "table ip") != 2 {
						t.Errorf("rules of the spliced path:\n%s", during)
					}
					h.splices(t, c)
				}
				if err := syscall.Kill(h.pid, syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				h.ends(t)
				if diff := cmp.Diff(before, rules(t, c)); diff != "" {
					t.Errorf("rules of the container (-before +after):\n%s", diff)
				}
				if log := h.log.String(); strings.Contains(log, "level=WARN") {
					t.Errorf("the log has warnings:\n%s", log)
				}
			})
		}
	}
}

// powers compares the capabilities of all threads, and whether a filter is in force.
func (h running) powers(t *testing.T, want string) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", h.pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	wanted := map[string]string{"CapEff": want, "CapPrm": want, "CapInh": noCaps, "CapAmb": noCaps, "NoNewPrivs": "1", "Seccomp": "2"}
	if want != noCaps { // it could give up the rest of this one, too
		wanted["CapBnd"] = want
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), ":\t"); ok && wanted[key] != "" {
				got[key] = value
			}
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", task, diff)
		}
	}
}

// splices waits for the spliced path of each family, and has a flow in the kernel's
// set that is stacked all the same, as DNS over TCP is, and gone from there after its
// end.
func (h running) splices(t *testing.T, c *attachtest.Place) {
	t.Helper()
	for family, dns := range map[string]netip.AddrPort{
		"ip": netip.MustParseAddrPort("10.0.2.3:53"), "ip6": netip.MustParseAddrPort("[fd00::3]:53"),
	} {
		h.log.wait(t, "TCP is spliced", map[string]string{"ip": "IPv4", "ip6": "IPv6"}[family])
		here, err := c.Dial(t, "tcp", dns)
		if err != nil {
			t.Fatal(err)
		}
		list := func() string { return c.Exec(t, "nft", "-n", "list", "set", family, "slipway-tap0", "stacked") }
		if out := list(); !strings.Contains(out, dns.Addr().String()+" . 53") {
			t.Errorf("the flow to %s is not in the set:\n%s", dns, out)
		}
		here.Close()
		late := time.Now().Add(attachtest.Patience)
		for out := list(); strings.Contains(out, "elements"); out = list() {
			if time.Now().After(late) {
				t.Fatalf("the flow's end has left it in the set:\n%s", out)
			}
		}
	}
}

// rules returns what the spliced path changes in a container.
func rules(t *testing.T, c *attachtest.Place) string {
	t.Helper()
	return c.Exec(t, "sh", "-c", "nft list ruleset; for f in -4 -6; do ip $f rule; ip $f route show table all type local dev lo; done | grep -v 'table local'")
}
