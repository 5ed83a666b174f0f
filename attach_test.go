// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// TestAttachEnds looks at every way in which a session ends well, and at what it
// leaves behind.
func TestAttachEnds(t *testing.T) {
	attachtest.Open(t)
	pipe := func(t *testing.T) (theirs, ours *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		return r, w
	}
	socket := func(t *testing.T) (theirs, ours *os.File) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fds[0]), "theirs"), os.NewFile(uintptr(fds[1]), "ours")
	}
	for _, tt := range []struct {
		name string
		exit func(*testing.T) (theirs, ours *os.File) // makes the exit descriptor, if not nil
		end  func(t *testing.T, h *helper, c *attachtest.Place, exit *os.File)
	}{
		{"SIGTERM", nil, func(t *testing.T, h *helper, _ *attachtest.Place, _ *os.File) { h.signal(t, syscall.SIGTERM) }},
		{"SIGINT", nil, func(t *testing.T, h *helper, _ *attachtest.Place, _ *os.File) { h.signal(t, syscall.SIGINT) }},
		{"exit pipe", pipe, func(_ *testing.T, _ *helper, _ *attachtest.Place, exit *os.File) { exit.Close() }},
		{"exit socket", socket, func(_ *testing.T, _ *helper, _ *attachtest.Place, exit *os.File) { exit.Close() }},
		{"end of the namespace", nil, func(_ *testing.T, _ *helper, c *attachtest.Place, _ *os.File) { c.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, dir := attachtest.NewContainer(t), t.TempDir()
			before := links(t, c)
			pidfile, api := filepath.Join(dir, "pid"), filepath.Join(dir, "api")
			flags, files := []string{"--pidfile", pidfile, "--api", api}, []*os.File(nil)
			var exit *os.File
			if tt.exit != nil {
				var theirs *os.File
				theirs, exit = tt.exit(t)
				defer exit.Close()
				defer theirs.Close()
				flags, files = append(flags, "--exit-fd", "4"), append(files, theirs)
			}
			h := attachWith(t, c, files, flags...)
			if got, err := os.ReadFile(pidfile); err != nil || string(got) != fmt.Sprintln(h.cmd.Process.Pid) {
				t.Errorf("the pidfile has %q, error %v, want %d", got, err, h.cmd.Process.Pid)
			}
			if out := c.Exec(t, "ip", "-o", "link"); !strings.Contains(out, "tap0") {
				t.Errorf("there is no tap0: %s", out)
			}
			tt.end(t, h, c, exit)
			h.exits(t, 0)
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("files are left behind: %v %v", left, err)
			}
			if left := processes(t); len(left) > 0 {
				t.Errorf("processes are left behind: %q", left)
			}
			if tt.name != "end of the namespace" {
				if after := links(t, c); after != before {
					t.Errorf("interfaces after the end:\n%swant\n%s", after, before)
				}
			}
		})
	}
}

// TestAttachByPath names the namespace by its path.
func TestAttachByPath(t *testing.T) {
	w := attachtest.Open(t)
	c := attachtest.NewContainer(t)
	h := &helper{stderr: newLines(), ended: make(chan struct{})}
	h.cmd = exec.Command(binary(t), "attach", "--ifname", "eth0", c.NetNSPath())
	h.cmd.Stderr = h.stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(h.ended); _ = h.cmd.Wait() }()
	t.Cleanup(func() { _ = h.cmd.Process.Kill(); <-h.ended })
	h.stderr.wait(t, "attached", "interface=eth0")
	for _, f := range attachtest.Families() {
		l := w.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		if _, err := c.Dial(t, "tcp", netip.MustParseAddrPort(l.Addr().String())); err != nil {
			t.Errorf("%s: connect: %v", f.Name, err)
		}
	}
	h.signal(t, syscall.SIGTERM)
	h.exits(t, 0)
}

// TestAttachTakesNothing closes inherited descriptors, so that a caller who waits
// for the end of a pipe does not wait for the session.
func TestAttachTakesNothing(t *testing.T) {
	attachtest.Open(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := attachWith(t, attachtest.NewContainer(t), []*os.File{w})
	w.Close()
	if got, err := io.ReadAll(r); err != nil || len(got) > 0 {
		t.Errorf("the pipe gave %q, error %v, want its end", got, err)
	}
	select {
	case <-h.ended:
		t.Error("the session has ended, too: this proves nothing")
	default:
	}
}

// TestAttachLogs has a flow under way at SIGUSR1.
func TestAttachLogs(t *testing.T) {
	w := attachtest.Open(t)
	c := attachtest.NewContainer(t)
	h := attachTo(t, c, "--log-json", "--log-level", "debug")
	for _, f := range attachtest.Families() {
		l := w.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		if _, err := c.Dial(t, "tcp", netip.MustParseAddrPort(l.Addr().String())); err != nil {
			t.Fatal(err)
		}
		h.signal(t, syscall.SIGUSR1)
		h.stderr.wait(t, `"msg":"flow"`, l.Addr().String())
	}
	h.stderr.wait(t, `"msg":"counter"`, `"name":"flows_tcp"`)
	h.signal(t, syscall.SIGTERM)
	h.exits(t, 0)
	for line := range strings.Lines(h.stderr.String()) {
		var entry struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Msg == "" || entry.Level == "" || entry.Time == "" {
			t.Errorf("the line is no log entry in JSON (%v): %s", err, line)
		}
	}
}

// TestAttachLogText has one line for each entry, and none below the level.
func TestAttachLogText(t *testing.T) {
	attachtest.Open(t)
	h := attachTo(t, attachtest.NewContainer(t), "--log-level", "warn")
	h.signal(t, syscall.SIGTERM)
	h.exits(t, 0)
	if got := h.stderr.String(); got != "" {
		t.Errorf("a session without trouble wrote %q", got)
	}
}

// TestAttachCapture lets tcpdump read what --pcap and slipway pcap write.
func TestAttachCapture(t *testing.T) {
	attachtest.NeedTools(t, "tcpdump", "ping")
	attachtest.Open(t)
	c, dir := attachtest.NewContainer(t), t.TempDir()
	whole, part, api := filepath.Join(dir, "whole"), filepath.Join(dir, "part"), filepath.Join(dir, "api")
	h := attachTo(t, c, "--pcap", whole)
	f := attachtest.Families()[0]
	c.Exec(t, "ping", "-n", "-c", "1", f.PeerAddr.String())
	h.signal(t, syscall.SIGTERM)
	h.exits(t, 0)
	attachTo(t, c, "--api", api)
	capture := exec.Command(binary(t), "pcap", api, part)
	if err := capture.Start(); err != nil {
		t.Fatal(err)
	}
	captures := func() bool {
		c.Exec(t, "ping", "-n", "-c", "1", f.PeerAddr.String())
		return strings.Contains(tcpdump(t, part), "echo reply")
	}
	attachtest.Eventually(t, "the capture has frames", captures)
	if err := capture.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := capture.Wait(); err != nil {
		t.Errorf("slipway pcap: %v", err)
	}
	if r := finish(t, exec.Command(binary(t), "pcap", "--stop", api)); r.code == 0 || !strings.Contains(r.stderr, "capture") {
		t.Errorf("slipway pcap --stop without a capture: %+v", r)
	}
	capture = exec.Command(binary(t), "pcap", api, part)
	if err := capture.Start(); err != nil {
		t.Fatal(err)
	}
	attachtest.Eventually(t, "the second capture has frames", captures)
	if r := finish(t, exec.Command(binary(t), "pcap", "--stop", api)); r.code != 0 {
		t.Errorf("slipway pcap --stop: %+v", r)
	}
	if err := capture.Wait(); err != nil {
		t.Errorf("slipway pcap that another has stopped: %v", err)
	}
	for _, path := range []string{whole, part} {
		want := fmt.Sprintf("%s > 10.0.2.100: ICMP echo reply", f.PeerAddr)
		if out := tcpdump(t, path); !strings.Contains(out, want) {
			t.Errorf("%s lacks %q:\n%s", path, want, out)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, error %v, want 0600", path, info.Mode(), err)
		}
	}
}

// tcpdump decodes a capture; one that has no header yet gives nothing.
func tcpdump(t *testing.T, path string) string {
	t.Helper()
	return finish(t, exec.Command("tcpdump", "-n", "-r", path)).stdout
}

// TestAttachFlows reads the flow table by the command, for either path.
func TestAttachFlows(t *testing.T) {
	w := attachtest.Open(t)
	f := attachtest.Families()[1]
	for accel, path := range map[string]string{"auto": "spliced", "off": "stacked"} {
		c, api := attachtest.NewContainer(t), filepath.Join(t.TempDir(), "api")
		h := attachTo(t, c, "--accel", accel, "--api", api)
		if accel == "auto" {
			h.stderr.wait(t, "TCP is spliced", f.Name)
		}
		l := w.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		if _, err := c.Dial(t, "tcp", netip.MustParseAddrPort(l.Addr().String())); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			args []string
			want []string
		}{
			{nil, []string{"PROTO", "tcp", path, l.Addr().String()}},
			{[]string{"--json"}, []string{`"proto":"tcp"`, `"path":"` + path, `"remote":"` + l.Addr().String()}},
			{[]string{"--counters"}, []string{"flows_tcp", "frames_in"}},
		} {
			got := slipway(t, append(append([]string{"flows"}, tt.args...), api)...)
			if got.code != 0 || !hasAll(got.stdout, tt.want) {
				t.Errorf("slipway flows %q: exit code %d, want %q in:\n%s%s", tt.args, got.code, tt.want, got.stdout, got.stderr)
			}
		}
	}
}
