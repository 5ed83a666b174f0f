// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

func TestWatchGone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		target func(t *testing.T, c *taptest.Container) tap.Target
		end    func(t *testing.T, c *taptest.Container, target tap.Target)
	}{
		{
			"process ended",
			func(_ *testing.T, c *taptest.Container) tap.Target { return tap.Target{PID: c.PID()} },
			func(_ *testing.T, c *taptest.Container, _ tap.Target) { c.Kill() },
		},
		{
			"path missing",
			func(_ *testing.T, c *taptest.Container) tap.Target { return tap.Target{NetNS: c.NetNSPath()} },
			func(_ *testing.T, c *taptest.Container, _ tap.Target) { c.Kill() },
		},
		{
			"path is another namespace",
			func(t *testing.T, c *taptest.Container) tap.Target {
				p := filepath.Join(t.TempDir(), "ns")
				symlink(t, c.NetNSPath(), p)
				return tap.Target{NetNS: p}
			},
			func(t *testing.T, c *taptest.Container, target tap.Target) {
				defer c.Kill()
				other := target.NetNS + ".new"
				symlink(t, taptest.NewContainer(t).NetNSPath(), other)
				if err := os.Rename(other, target.NetNS); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := taptest.NewContainer(t)
			target := tt.target(t, c)
			d := open(t, tap.Config{Target: target, Pin: true})
			tt.end(t, c, target)
			if err := d.Watch(t.Context()); !errors.Is(err, tap.ErrGone) {
				t.Errorf("Watch: %v, want ErrGone", err)
			}
		})
	}
}

// TestWatchOutlivesTheProcess ends the process that named the target while
// another one is still in its namespace.
func TestWatchOutlivesTheProcess(t *testing.T) {
	c := taptest.NewContainer(t)
	other := c.Command("sh", "-c", "echo inside; exec sleep 1000")
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	d := open(t, tap.Config{Target: tap.Target{PID: c.PID()}, Pin: true})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- d.Watch(ctx) }()
	c.Kill()
	cancel()
	if err := <-gone; err != nil {
		t.Errorf("Watch: %v while a process is left", err)
	}
	go func() { gone <- d.Watch(t.Context()) }()
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; !errors.Is(err, tap.ErrGone) {
		t.Errorf("Watch: %v, want ErrGone", err)
	}
	_ = other.Wait() // killed
}

// TestWatchCanceled cancels both before and during Watch; the target lives on.
func TestWatchCanceled(t *testing.T) {
	c := taptest.NewContainer(t)
	for _, tt := range []struct {
		name string
		cfg  tap.Config
	}{
		{"moved", tap.Config{Target: tap.Target{PID: c.PID()}}},
		{"pinned, process", tap.Config{Target: tap.Target{PID: c.PID()}, Pin: true}},
		{"pinned, path", tap.Config{Target: tap.Target{NetNS: c.NetNSPath()}, Pin: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := open(t, tt.cfg)
			defer d.Close()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- d.Watch(ctx) }()
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Watch: %v, want nil", err)
			}
			if err := d.Watch(ctx); err != nil {
				t.Errorf("Watch with a canceled context: %v, want nil", err)
			}
		})
	}
}

func symlink(t testing.TB, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}
