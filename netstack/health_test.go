// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHealth(t *testing.T) {
	r := newRig(t, options{})
	got, err := r.net.Health(t.Context())
	must(t, err)
	want := []SpliceHealth{{Family: "IPv4", State: SpliceOff}, {Family: "IPv6", State: SpliceOff}}
	if diff := cmp.Diff(want, got.Splice); diff != "" || got.Lag <= 0 {
		t.Errorf("health: lag %v, path (-want +got):\n%s", got.Lag, diff)
	}
	// A loop that is busy for longer than one waits.
	busy, asked := make(chan struct{}), make(chan struct{})
	r.net.loop.Post(func() { close(asked); <-busy })
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.net.Health(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("health of a loop that does not answer: %v, want %v", err, context.Canceled)
	}
	close(busy)
}

// TestPathStates has a name for each state, and remembers why the path was closed.
func TestPathStates(t *testing.T) {
	for state, want := range map[pathState]string{pathClosed: SpliceClosed, pathTrying: SpliceTrying, pathOpened: SpliceOpen} {
		if got := state.String(); got != want {
			t.Errorf("state %d is %q, want %q", state, got, want)
		}
	}
	k := &kernelPath{n: newRig(t, options{}).net}
	k.close(1, "it broke")
	if got := k.ways[1]; got.why != "it broke" || got.state != pathClosed {
		t.Errorf("after close: %+v", got)
	}
}
