// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// mustFail opens and proves that the one line of the error says what is wrong
// and that nothing is left: no interface, no descriptor, no child.
func mustFail(t *testing.T, c *taptest.Container, cfg tap.Config, is error, says string) {
	t.Helper()
	want := take(t, c)
	d, err := tap.Open(cfg)
	if err == nil {
		d.Close()
		t.Fatal("Open succeeded")
	}
	if !strings.Contains(err.Error(), says) || (is != nil && !errors.Is(err, is)) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is %q, want %v and one line that says %q", err, is, says)
	}
	if diff := cmp.Diff(want, take(t, c)); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}

func TestOpenBadConfig(t *testing.T) {
	c := taptest.NewContainer(t)
	for _, tt := range []struct {
		name   string
		change func(cfg *tap.Config)
		says   string
	}{
		{name: "name too long", change: func(c *tap.Config) { c.Name = "0123456789abcdef" }, says: "at most 15 bytes"},
		{name: "name with a slash", change: func(c *tap.Config) { c.Name = "../tap0" }, says: "interface name"},
		{name: "name with a pattern", change: func(c *tap.Config) { c.Name = "tap%d" }, says: "interface name"},
		{name: "name dots", change: func(c *tap.Config) { c.Name = ".." }, says: "interface name"},
		{name: "MTU too small", change: func(c *tap.Config) { c.MTU = 67; c.Plan.V6 = tap.Family{} }, says: "want 68 to 65521 bytes"},
		{name: "MTU negative", change: func(c *tap.Config) { c.MTU = -1 }, says: "want 68 to 65521 bytes"},
		{name: "MTU too large", change: func(c *tap.Config) { c.MTU = 65522 }, says: "want 68 to 65521 bytes"},
		{name: "MTU too small for IPv6", change: func(c *tap.Config) { c.MTU = 1279 }, says: "IPv6 needs at least 1280 bytes"},
		{name: "MAC multicast", change: func(c *tap.Config) { c.MAC = net.HardwareAddr{1, 0, 0, 0, 0, 1} }, says: "MAC address"},
		{name: "MAC zero", change: func(c *tap.Config) { c.MAC = make(net.HardwareAddr, 6) }, says: "MAC address"},
		{name: "MAC too short", change: func(c *tap.Config) { c.MAC = net.HardwareAddr{2, 0} }, says: "MAC address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t)}
			tt.change(&cfg)
			mustFail(t, c, cfg, nil, tt.says)
		})
	}
}

// TestOpenConflicts meets containers that have something in the way.
func TestOpenConflicts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(t *testing.T, c *taptest.Container)
		iface  string
		is     error
		says   string
	}{
		{name: "name of no tap", iface: "lo", is: tap.ErrNameTaken, says: "choose another interface name"},
		{
			name:   "name of a tap in use",
			before: func(t *testing.T, c *taptest.Container) { open(t, tap.Config{Target: tap.Target{PID: c.PID()}}) },
			is:     tap.ErrNameTaken, says: "another process has it open",
		},
		{
			name: "name of a tap with queues",
			before: func(t *testing.T, c *taptest.Container) {
				c.Exec(t, "ip", "tuntap", "add", "tap0", "mode", "tap", "multi_queue")
			},
			is: tap.ErrNameTaken, says: "no tap of one queue",
		},
		{
			name:   "name of a tun",
			before: func(t *testing.T, c *taptest.Container) { c.Exec(t, "ip", "tuntap", "add", "tap0", "mode", "tun") },
			is:     tap.ErrNameTaken, says: "no tap of one queue",
		},
		{
			name: "default route there",
			before: func(t *testing.T, c *taptest.Container) {
				c.Exec(t, "sh", "-c", "ip link set lo up && ip route add default dev lo")
			},
			is: unix.EEXIST, says: "there is one already",
		},
		{
			name: "IPv6 default route there",
			before: func(t *testing.T, c *taptest.Container) {
				c.Exec(t, "sh", "-c", "ip link set lo up && ip -6 route add default dev lo metric 1024")
			},
			is: unix.EEXIST, says: "there is one already",
		},
	} {
		for _, pin := range []bool{false, true} {
			t.Run(tt.name+" pin="+strconv.FormatBool(pin), func(t *testing.T) {
				c := taptest.NewContainer(t)
				if tt.before != nil {
					tt.before(t, c)
				}
				cfg := tap.Config{Target: tap.Target{PID: c.PID()}, Name: tt.iface, Configure: true, Plan: defaultPlan(t), Pin: pin}
				mustFail(t, c, cfg, tt.is, tt.says)
			})
		}
	}
}

// TestOpenBadTarget is the same for targets that cannot be entered.
func TestOpenBadTarget(t *testing.T) {
	c := taptest.NewContainer(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	type row struct {
		name   string
		target tap.Target
		says   string
	}
	rows := []row{
		{"none", tap.Target{}, "no target given"},
		{"no process", tap.Target{PID: 1<<22 + 1}, "there is no process"},
		{"zombie", tap.Target{PID: zombie(t)}, "has ended"},
		{"thread", tap.Target{PID: otherThread(t)}, "not the id of a process"},
		{"ourselves", tap.Target{PID: os.Getpid()}, "is our own"},
		{"our own path", tap.Target{NetNS: "/proc/self/ns/net"}, "is our own"},
		{"missing path", tap.Target{NetNS: plain + "x"}, "no such file"},
		{"plain file", tap.Target{NetNS: plain}, "is not a network namespace"},
		{"directory", tap.Target{NetNS: filepath.Dir(plain)}, "is not a network namespace"},
		{"FIFO", tap.Target{NetNS: fifo}, "is not a network namespace"},
		{"user namespace for network", tap.Target{NetNS: c.UserNSPath()}, "but not a network namespace"},
		{"network namespace for user", tap.Target{NetNS: c.NetNSPath(), UserNS: c.NetNSPath()}, "but not a user namespace"},
		{"plain file for user", tap.Target{NetNS: c.NetNSPath(), UserNS: plain}, "is not a user namespace"},
	}
	if os.Geteuid() != 0 { // whom other users' processes are open to
		rows = append(rows, row{"process of another user", tap.Target{PID: 1}, "belongs to another user"})
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			mustFail(t, c, tap.Config{Target: tt.target}, tap.ErrTarget, tt.says)
		})
	}
}

// TestOpenForeignUserNS names a user namespace that has no power over the
// network namespace.
func TestOpenForeignUserNS(t *testing.T) {
	c, other := taptest.NewContainer(t), taptest.NewContainer(t)
	target := tap.Target{NetNS: c.NetNSPath(), UserNS: other.UserNSPath()}
	for _, pin := range []bool{false, true} {
		mustFail(t, c, tap.Config{Target: target, Pin: pin}, unix.EPERM, "no capability in the user namespace that owns it")
	}
}

// zombie returns the id of a process that has ended and is not reaped.
func zombie(t testing.TB) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Wait() })
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	poll(t, fd, unix.POLLIN)
	return cmd.Process.Pid
}

// otherThread returns the id of a thread of ours that lives as long as the test.
func otherThread(t testing.TB) int {
	t.Helper()
	ids, quit := make(chan int), make(chan struct{})
	t.Cleanup(func() { close(quit) })
	for range 2 { // one of them may be the main thread
		go func() {
			runtime.LockOSThread()
			ids <- unix.Gettid()
			<-quit
			runtime.UnlockOSThread()
		}()
	}
	a, b := <-ids, <-ids
	if a == os.Getpid() {
		return b
	}
	return a
}
