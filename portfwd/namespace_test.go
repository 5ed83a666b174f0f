// SPDX-License-Identifier: Apache-2.0

package portfwd_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// TestFollowContainer follows a socket of a real container from outside.
func TestFollowContainer(t *testing.T) {
	p := freePorts(t, 1)[0]
	c := taptest.NewContainer(t)
	device, err := tap.Open(tap.Config{
		Target: tap.Target{PID: c.PID()}, Configure: true, Plan: plan(t),
		Inside: tap.Inside{Sockets: []tap.Socket{portfwd.DiagSocket(), {Domain: unix.AF_INET, Type: unix.SOCK_STREAM}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close() // and the sockets
	sockets := device.Inside().Sockets
	for _, s := range sockets {
		if s.Err != nil {
			t.Fatal(s.Err)
		}
	}
	source, err := portfwd.NewDiag(sockets[0].FD)
	if err != nil {
		t.Fatal(err)
	}
	table, stack := newTable(t, 0)
	stack.changed = make(chan struct{}, 8)
	a, err := portfwd.ParseAuto("127.0.0.1:auto")
	if err != nil {
		t.Fatal(err)
	}
	follower, err := portfwd.NewFollower(portfwd.FollowerConfig{Auto: a, Table: table, Source: source, Every: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- follower.Run(ctx) }()

	if err := unix.Bind(sockets[1].FD, &unix.SockaddrInet4{Port: int(p), Addr: [4]byte{10, 0, 2, 100}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(sockets[1].FD, 1); err != nil {
		t.Fatal(err)
	}
	<-stack.changed
	want := fmt.Sprintf("127.0.0.1:%d:10.0.2.100:%[1]d/tcp", p)
	if got := table.Ports(); len(got) != 1 || got[0].String() != want {
		t.Errorf("published %v, want %s", got, want)
	}
	// The end of listening, without closing what is the device's.
	if err := unix.Shutdown(sockets[1].FD, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	<-stack.changed
	if got := table.Ports(); len(got) != 0 {
		t.Errorf("published %v after the end of the service", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}
