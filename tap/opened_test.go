// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// TestInsideOpened makes things of each kind, among them some that cannot be.
func TestInsideOpened(t *testing.T) {
	for _, pin := range []bool{false, true} {
		c := taptest.NewContainer(t)
		before := take(t, c)
		d, err := tap.Open(tap.Config{
			Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t), Pin: pin,
			Inside: tap.Inside{
				Settings: []tap.Setting{
					{Path: "net/ipv4/conf/tap0/rp_filter", Value: "2"},
					{Path: "net/ipv4/conf/nosuch0/rp_filter", Value: "2"},
					{Path: "net/ipv4/conf/tap0/accept_local", Value: "one"},
					{Path: "net/ipv4/ip_forward", Value: "1"},
				},
				Files: []string{"net/ipv4/ip_forward", "net/nosuch", "net/ipv6/conf/all/forwarding"},
				Sockets: []tap.Socket{
					{Domain: unix.AF_INET, Type: unix.SOCK_STREAM},
					{Domain: unix.AF_INET, Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_UDP},
					{Domain: unix.AF_PACKET, Type: unix.SOCK_RAW},
				},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		in := d.Inside()
		want := []error{nil, unix.ENOENT, unix.EINVAL, nil}
		for i, w := range want {
			if got := in.Settings[i]; !errors.Is(got, w) {
				t.Errorf("setting %d: %v, want %v", i, got, w)
			}
		}
		if got := c.Exec(t, "cat", "/proc/sys/net/ipv4/conf/tap0/rp_filter", "/proc/sys/net/ipv4/ip_forward"); got != "2\n1\n" {
			t.Errorf("the settings are %q, want 2 and 1", got)
		}
		checkFiles(t, c, in.Files)
		checkSockets(t, c, in.Sockets)
		d.Close()
		if diff := cmp.Diff(before, take(t, c)); diff != "" {
			t.Errorf("left behind (-before +after):\n%s", diff)
		}
	}
}

// checkFiles reads what the container's settings are, before and after a change.
func checkFiles(t *testing.T, c *taptest.Container, fs []tap.File) {
	t.Helper()
	if len(fs) != 3 || fs[0].Err != nil || fs[2].Err != nil || fs[1].FD != -1 || !errors.Is(fs[1].Err, unix.ENOENT) {
		t.Fatalf("files: %+v", fs)
	}
	for _, want := range []string{"1", "0"} {
		c.Exec(t, "sh", "-c", "for f in ipv4/ip_forward ipv6/conf/all/forwarding; do echo "+want+" >/proc/sys/net/$f; done")
		for _, f := range []tap.File{fs[0], fs[2]} {
			b := make([]byte, 1)
			if _, err := unix.Pread(f.FD, b, 0); err != nil || string(b) != want {
				t.Errorf("the file says %q, error %v, want %s", b, err, want)
			}
		}
	}
}

// checkSockets looks at the namespace and the flags of sockets, and binds one to
// an address that only the container has.
func checkSockets(t *testing.T, c *taptest.Container, fs []tap.File) {
	t.Helper()
	if len(fs) != 3 || fs[0].Err != nil || fs[2].Err != nil || fs[1].FD != -1 || !errors.Is(fs[1].Err, unix.EPROTONOSUPPORT) {
		t.Fatalf("sockets: %+v", fs)
	}
	if err := unix.Bind(fs[0].FD, &unix.SockaddrInet4{Addr: defaultPlan(t).V4.Container.As4()}); err != nil {
		t.Errorf("bind to the container's address: %v", err)
	}
	for _, f := range []tap.File{fs[0], fs[2]} {
		ns, err := unix.IoctlRetInt(f.FD, unix.SIOCGSKNS)
		if err != nil {
			t.Fatal(err)
		}
		var got, want unix.Stat_t
		if err := errors.Join(unix.Fstat(ns, &got), unix.Stat(c.NetNSPath(), &want)); err != nil || got.Ino != want.Ino {
			t.Errorf("a socket is in the namespace %d, want %d, error %v", got.Ino, want.Ino, err)
		}
		unix.Close(ns)
		flags, err := unix.FcntlInt(uintptr(f.FD), unix.F_GETFL, 0)
		cloexec, err2 := unix.FcntlInt(uintptr(f.FD), unix.F_GETFD, 0)
		if errors.Join(err, err2) != nil || flags&unix.O_NONBLOCK == 0 || cloexec&unix.FD_CLOEXEC == 0 {
			t.Errorf("socket flags %#x and %#x, want O_NONBLOCK and FD_CLOEXEC", flags, cloexec)
		}
	}
}

// TestInsideTooMany is refused before anything is made.
func TestInsideTooMany(t *testing.T) {
	c := taptest.NewContainer(t)
	in := tap.Inside{Files: make([]string, 8), Sockets: make([]tap.Socket, 41)}
	mustFail(t, c, tap.Config{Target: tap.Target{PID: c.PID()}, Inside: in}, nil, "at most 48")
	in = tap.Inside{Settings: make([]tap.Setting, 9)}
	mustFail(t, c, tap.Config{Target: tap.Target{PID: c.PID()}, Inside: in}, nil, "at most 8")
}

// TestInsideLargest has the longest script that there is: all that can be asked
// for, in each way.
func TestInsideLargest(t *testing.T) {
	name := strings.Repeat("x", unix.IFNAMSIZ-1)
	in := tap.Inside{Sockets: make([]tap.Socket, 42)}
	for i := range in.Sockets {
		in.Sockets[i] = tap.Socket{Domain: unix.AF_INET6, Type: unix.SOCK_STREAM}
	}
	for range 6 {
		in.Files = append(in.Files, filepath.Join("net/ipv6/conf", name, "forwarding"))
	}
	for range 8 {
		in.Settings = append(in.Settings, tap.Setting{Path: filepath.Join("net/ipv6/neigh", name, "base_reachable_time_ms"), Value: "30000"})
	}
	for _, tt := range []struct {
		name       string
		there, pin bool
	}{{"moved", false, false}, {"pinned", false, true}, {"taken over", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			c := taptest.NewContainer(t)
			if tt.there {
				c.Exec(t, "ip", "tuntap", "add", name, "mode", "tap")
			}
			before := files(t)
			d := open(t, tap.Config{
				Target: tap.Target{PID: c.PID()}, Name: name, Configure: true, Plan: defaultPlan(t), Pin: tt.pin,
				MTU: 9000, MAC: []byte{2, 0, 0, 0, 0, 9}, Inside: in,
			})
			for i, f := range append(d.Inside().Files, d.Inside().Sockets...) {
				if f.Err != nil || f.FD < 0 {
					t.Errorf("item %d: %+v", i, f)
				}
			}
			if err := errors.Join(d.Inside().Settings...); err != nil || len(d.Inside().Settings) != len(in.Settings) {
				t.Errorf("settings: %v", err)
			}
			d.Close()
			if diff := cmp.Diff(before, files(t)); diff != "" {
				t.Errorf("descriptors (-before +after):\n%s", diff)
			}
		})
	}
}

// TestAbandon leaves the interface, which needs nobody any more, to its namespace.
func TestAbandon(t *testing.T) {
	c := taptest.NewContainer(t)
	d, err := tap.Open(tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: defaultPlan(t), Pin: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Abandon(); err != nil {
		t.Fatal(err)
	}
	if out := c.Exec(t, "ip", "-br", "link", "show", "tap0"); !strings.Contains(out, "NO-CARRIER") {
		t.Errorf("the interface is %q, want it there with nobody at its other end", out)
	}
	if err := d.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}
