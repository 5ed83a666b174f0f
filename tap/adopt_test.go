// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
	"golang.org/x/sys/unix"
)

// TestAdoptTap adopts a copy of an open tap's descriptor, with each framing.
func TestAdoptTap(t *testing.T) {
	for _, offload := range []tap.Offload{0, tap.OffloadNone} {
		c := taptest.NewContainer(t)
		d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Name: "tap7", Configure: true, Plan: defaultPlan(t), Offload: offload, Pin: true})
		fd, err := unix.Dup(d.FD())
		if err != nil {
			t.Fatal(err)
		}
		a, err := tap.Adopt(tap.Adoption{FD: fd, MTU: 9000})
		if err != nil {
			t.Fatal(err)
		}
		if a.Name() != "tap7" || a.MAC().String() != d.MAC().String() || a.Offload() != d.Offload() || a.MTU() != 9000 || !a.TakenOver() || a.FD() != fd {
			t.Errorf("adopted %s %s %s %d, want what %s %s %s is", a.Name(), a.MAC(), a.Offload(), a.MTU(), d.Name(), d.MAC(), d.Offload())
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags of the descriptor %#x, error %v, want it closed on exec", flags, err)
		}
		exchange(t, a)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Watch(ctx); err != nil {
			t.Errorf("Watch: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAdoptSocket adopts sockets that keep frames apart.
func TestAdoptSocket(t *testing.T) {
	for _, kind := range []int{unix.SOCK_SEQPACKET, unix.SOCK_DGRAM} {
		fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[1])
		mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
		d, err := tap.Adopt(tap.Adoption{FD: fds[0], MTU: 1500, MAC: mac})
		if err != nil {
			t.Fatal(err)
		}
		if d.Offload() != 0 || d.MAC().String() != mac.String() || d.Name() == "" {
			t.Errorf("adopted %s %s %s", d.Name(), d.MAC(), d.Offload())
		}
		if _, err := unix.Read(d.FD(), make([]byte, 1)); err != unix.EAGAIN {
			t.Errorf("read: %v, want %v", err, unix.EAGAIN)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAdoptRefuses leaves what is no tap as it is.
func TestAdoptRefuses(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	defer unix.Close(fds[0])
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const closed = 1 << 20
	for _, tt := range []struct {
		name    string
		fd, mtu int
		want    string
	}{
		{"stream", fds[0], 1500, "keeps messages apart"},
		{"file", int(file.Fd()), 1500, "keeps messages apart"},
		{"closed", closed, 1500, "bad file descriptor"},
		{"MTU too small", fds[0], tap.MinMTU - 1, "67"},
		{"MTU too large", fds[0], tap.MaxMTU + 1, "65522"},
	} {
		d, err := tap.Adopt(tap.Adoption{FD: tt.fd, MTU: tt.mtu})
		if err == nil {
			d.Close()
			t.Fatalf("%s: no error", tt.name)
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		defer unix.Close(tun)
		if _, err := tap.Adopt(tap.Adoption{FD: tun, MTU: 1500}); err == nil || !strings.Contains(err.Error(), "no tap is attached") {
			t.Errorf("a tun device without a tap: %v", err)
		}
	}
}
