// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/tap/taptest"
	"golang.org/x/sys/unix"
)

// TestIPv6IsReady asks in fresh containers, at once after Open, by what route a
// packet to the IPv6 address goes: it must be the container's own.
func TestIPv6IsReady(t *testing.T) {
	const rounds = 40
	plan, err := NewPlan(netip.MustParsePrefix(DefaultCIDR4), netip.MustParsePrefix(DefaultCIDR6))
	if err != nil {
		t.Fatal(err)
	}
	route := Socket{Domain: unix.AF_NETLINK, Type: unix.SOCK_RAW, Protocol: unix.NETLINK_ROUTE}
	for i := range rounds {
		c := taptest.NewContainer(t)
		d, err := Open(Config{
			Target: Target{PID: c.PID()}, Configure: true, Plan: plan, Pin: i%2 == 0,
			Inside: Inside{Sockets: []Socket{route}},
		})
		if err != nil {
			t.Fatal(err)
		}
		fd := d.Inside().Sockets[0].FD
		if err := unix.Send(fd, lookupMsg(plan.V6.Container), 0); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, ackSize)
		// The kernel has answered by the time that it has taken the message.
		if _, _, err := unix.Recvfrom(fd, answer, 0); err != nil {
			t.Fatal(err)
		}
		if got := answer[routeTypeAt]; got != unix.RTN_LOCAL {
			t.Errorf("round %d: a packet to %s takes a route of type %d, want %d", i, plan.V6.Container, got, unix.RTN_LOCAL)
		}
		d.Close()
		c.Kill()
	}
}

// TestAwaitGivesUp waits in a namespace for an address that it does not have, and
// for one for which there is a route.
func TestAwaitGivesUp(t *testing.T) {
	s, err := newScript()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.unshare()
	s.netlink("open a netlink socket", regInner, unix.NETLINK_ROUTE)
	s.request("set lo up", regInner, s.bytes(linkMsg(loopbackIndex, true)))
	there := s.await("wait for an address", regInner, s.bytes(lookupMsg(netip.MustParseAddr("127.0.0.1"))))
	never := s.await("wait for an address", regInner, s.bytes(lookupMsg(netip.MustParseAddr("192.0.2.1"))))
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	if err := s.failed(there); err != nil {
		t.Errorf("an address that is there: %v", err)
	}
	if err := s.failed(never); err == nil {
		t.Error("an address that is not there was found")
	}
}
