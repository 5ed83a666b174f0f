// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// pollLimit bounds waiting for what the kernel does by itself, in milliseconds.
// It is far above what is expected: it makes a test fail instead of hang.
const pollLimit = 20_000

// poll waits until the descriptor is ready or in error and returns its events.
func poll(t testing.TB, fd int, events int16) int16 {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(p, pollLimit)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			t.Fatalf("poll: %v", err)
		case n == 0:
			t.Fatalf("nothing happened on the descriptor in %d ms", pollLimit)
		}
		return p[0].Revents
	}
}

// arp returns an ARP packet in an Ethernet frame; op is 1 for a request.
func arp(op byte, from net.HardwareAddr, fromIP [4]byte, to net.HardwareAddr, toIP [4]byte) []byte {
	b := append(bytes.Clone(to), from...)
	b = append(b, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, op)
	b = append(append(b, from...), fromIP[:]...)
	return append(append(b, to...), toIP[:]...)
}

// TestFrames sends the container an ARP request through the tap and reads its
// answer, with each set of offloads that the kernel may be left with.
func TestFrames(t *testing.T) {
	const tso = tap.OffloadVNet | tap.OffloadCSum | tap.OffloadTSO4 | tap.OffloadTSO6
	for _, tt := range []struct {
		name string
		ask  tap.Offload
		want tap.Offload
		on   []string // features of the interface
		off  []string
	}{
		{"everything", 0, tso | tap.OffloadUSO, []string{"tx-checksumming", "tcp-segmentation-offload", "tx-udp-segmentation"}, nil},
		{"without USO", tso, tso, []string{"tx-checksumming", "tcp-segmentation-offload"}, []string{"tx-udp-segmentation"}},
		{"checksums", tap.OffloadVNet | tap.OffloadCSum, tap.OffloadVNet | tap.OffloadCSum, []string{"tx-checksumming"}, []string{"tcp-segmentation-offload", "tx-udp-segmentation"}},
		{"header", tap.OffloadVNet, tap.OffloadVNet, nil, []string{"tx-checksumming", "tcp-segmentation-offload", "tx-udp-segmentation"}},
		{"nothing", tap.OffloadNone, 0, nil, []string{"tx-checksumming", "tcp-segmentation-offload", "tx-udp-segmentation"}},
		{"TSO without what it stands on", tap.OffloadTSO4 | tap.OffloadCSum, 0, nil, []string{"tx-checksumming"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := taptest.NewContainer(t)
			d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t), Offload: tt.ask})
			if d.Offload() != tt.want {
				t.Errorf("granted %s, want %s", d.Offload(), tt.want)
			}
			features := c.Exec(t, "ethtool", "-k", "tap0")
			for _, f := range tt.on {
				if !strings.Contains(features, f+": on") {
					t.Errorf("%s is off", f)
				}
			}
			for _, f := range tt.off {
				if !strings.Contains(features, f+": off") {
					t.Errorf("%s is on", f)
				}
			}
			exchange(t, d)
		})
	}
}

// exchange asks the container for its address and waits for the answer.
func exchange(t testing.TB, d *tap.Device) {
	t.Helper()
	header := 0
	if d.Offload().Has(tap.OffloadVNet) {
		header = tap.VNetHdrLen
	}
	gateway, container := [4]byte{10, 0, 2, 2}, [4]byte{10, 0, 2, 100}
	us := defaultPlan(t).GatewayMAC()
	frame := append(make([]byte, header), arp(1, us, gateway, net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, container)...)
	if _, err := unix.Write(d.FD(), frame); err != nil {
		t.Fatalf("write a frame: %v", err)
	}
	want := arp(2, d.MAC(), container, us, gateway)
	buf := make([]byte, 70_000)
	for {
		n, err := unix.Read(d.FD(), buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			poll(t, d.FD(), unix.POLLIN)
		case err != nil:
			t.Fatalf("read a frame: %v", err)
		case bytes.Equal(buf[min(header, n):n], want):
			return
		}
	}
}

// TestNamespaceDies proves that the tap does not keep the namespace alive.
func TestNamespaceDies(t *testing.T) {
	c := taptest.NewContainer(t)
	d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t)})
	c.Kill()
	for poll(t, d.FD(), 0)&unix.POLLERR == 0 {
	}
	if _, err := unix.Read(d.FD(), make([]byte, 2000)); !errors.Is(err, unix.EBADFD) {
		t.Errorf("read after the namespace's end: %v, want %v", err, unix.EBADFD)
	}
}

// leftovers is what a failed Open must not change.
type leftovers struct {
	Files    []string
	Children []string
	Links    []string
}

func take(t testing.TB, c *taptest.Container) leftovers {
	t.Helper()
	var l leftovers
	for name := range links(t, c) {
		l.Links = append(l.Links, name)
	}
	slices.Sort(l.Links)
	l.Files, l.Children = files(t), children(t)
	return l
}

// files lists our descriptors and what they are.
func files(t testing.TB) []string {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range dir {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			out = append(out, e.Name()+" "+to)
		}
	}
	slices.Sort(out)
	return out
}

// children lists the ids of our children, zombies too.
func children(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(paths) == 0 {
		t.Fatalf("list the children: %v", err)
	}
	var out []string
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil && !os.IsNotExist(err) && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
		out = append(out, strings.Fields(string(b))...)
	}
	slices.Sort(out)
	return out
}
