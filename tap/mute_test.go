// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// patience bounds a wait that would otherwise never end, and pause how long it is until
// the end is looked for.
const (
	patience = 20 * time.Second
	pause    = 100 * time.Millisecond
)

// TestMute has the container's kernel report that it listens to a group, and a process send
// a datagram: the first is heard only where the device is not muted, the second always.
func TestMute(t *testing.T) {
	c := taptest.NewContainer(t)
	d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t)})
	frames := func() (reports, others int) {
		b := make([]byte, 1<<16)
		for {
			n, err := unix.Read(d.FD(), b)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return reports, others
			}
			const most = 18 // a virtio header, and the hardware address that it goes to
			if strings.Contains(string(b[:min(n, most)]), "\x33\x33\x00\x00\x00\x16") {
				reports++
			} else {
				others++
			}
		}
	}
	report := func() { c.Exec(t, "sh", "-c", "ip -6 maddr >/dev/null; ip link set tap0 down; ip link set tap0 up") }
	// heard waits for a frame of the kind, and returns how many reports there were.
	heard := func(report bool) (reports int) {
		for late := time.Now().Add(patience); time.Now().Before(late); {
			n, others := frames()
			reports += n
			if report && n > 0 || !report && others > 0 {
				return reports
			}
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(d.FD()), Events: unix.POLLIN}}, int(pause.Milliseconds()))
		}
		t.Errorf("nothing is heard: reports %t", report)
		return reports
	}
	report()
	heard(true)
	if err := d.Mute(); err != nil {
		t.Fatal(err)
	}
	if n, others := frames(); n+others > 0 {
		t.Errorf("%d frames waited still", n+others)
	}
	report()
	c.Exec(t, "sh", "-c", "ping -c 1 -W 1 -I tap0 10.0.2.77 >/dev/null; true")
	if n := heard(false); n > 0 {
		t.Errorf("muted: %d reports", n)
	}
	if err := d.Unmute(); err != nil {
		t.Fatal(err)
	}
	report()
	heard(true)
}
