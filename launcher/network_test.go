// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher"
)

// fakeNet is a network that carries nothing.
type fakeNet struct {
	fail   error // what Run returns at once, if not nil
	closed atomic.Int32
}

func (n *fakeNet) Run(ctx context.Context) error {
	if n.fail != nil {
		return n.fail
	}
	<-ctx.Done()
	return nil
}

func (n *fakeNet) Close() error {
	n.closed.Add(1)
	return nil
}

// TestNetworkComesFirst holds the session up until the rest of the container is
// made, and lets the command tell what it finds.
func TestNetworkComesFirst(t *testing.T) {
	up := filepath.Join(t.TempDir(), "up")
	n := &fakeNet{}
	c := launcher.Config{Args: []string{"/bin/sh", "-c", "test -e " + up}, Net: launcher.NetPrivate}
	c.Session = func(pid int) (launcher.Network, error) {
		for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
			// The table is that of the container alone once its root has changed.
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
			if err != nil {
				return nil, err
			}
			if first, _, _ := strings.Cut(string(b), "\n"); strings.Contains(first, "slipway") {
				return n, os.WriteFile(up, nil, 0o644)
			}
		}
		return nil, errors.New("the root was not changed")
	}
	run(t, c).must(t)
	if got := n.closed.Load(); got != 1 {
		t.Errorf("the network was closed %d times, want once", got)
	}
}

func TestNetworkNamespace(t *testing.T) {
	inode := func(path string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	ours := inode("/proc/self/ns/net")
	for _, tt := range []struct {
		net  launcher.NetMode
		same bool
	}{{launcher.NetPrivate, false}, {launcher.NetNone, false}, {launcher.NetHost, true}} {
		t.Run(string(tt.net), func(t *testing.T) {
			c := sh("stat -L -c %i /proc/self/ns/net; test -e /sys/class/net/lo && ! touch /sys/x 2> /dev/null")
			c.Net = tt.net
			c.Session = func(int) (launcher.Network, error) { return &fakeNet{}, nil }
			if got := run(t, c).must(t) == fmt.Sprint(ours); got != tt.same {
				t.Errorf("the container shares the host's network: %t, want %t", got, tt.same)
			}
		})
	}
}

func TestNetworkFails(t *testing.T) {
	broken := errors.New("no wire")
	tests := []struct {
		name    string
		session func(int) (launcher.Network, error)
	}{
		{"to start", func(int) (launcher.Network, error) { return nil, broken }},
		{"to run", func(int) (launcher.Network, error) { return &fakeNet{fail: broken}, nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := sh("exec sleep 1000")
			c.Net, c.Session = launcher.NetPrivate, tt.session
			started, no := false, false
			c.Started, c.Init = func(int) { started = true }, &no // the command would take the stage's place
			if o := run(t, c); o.code != 125 || !errors.Is(o.err, broken) {
				t.Errorf("code %d, error %v, want 125 and the network's error", o.code, o.err)
			}
			if started && tt.name == "to start" {
				t.Error("a command that was never executed is said to have started")
			}
		})
	}
}
