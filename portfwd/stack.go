// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"context"
	"net/netip"
)

// A Listener is a socket of the host's, and where in the container leads what comes
// in there.
type Listener struct {
	// ID is the Table's name for it, from 1.
	ID    int
	Proto Proto
	// FD is non-blocking: a TCP socket that listens, or a UDP socket that is bound.
	// One for both families is an IPv6 socket.
	FD int
	// Host is what the socket is bound to; the address is unspecified where that is
	// every one.
	Host netip.AddrPort
	// Container has the zero Addr where it is the plan's address, of the client's
	// family.
	Container netip.AddrPort
	// Loopback means the container's own loopback address, whatever Container says.
	Loopback bool
}

// A Stack carries what comes in at listeners to the container.
type Stack interface {
	// Publish starts to serve the listeners and returns at once. Their descriptors
	// are the Stack's from now on.
	Publish([]Listener)
	// Withdraw closes the listeners of those IDs, and returns when they are closed
	// or ctx is done. The connections that came by them go on, unless cut is set.
	Withdraw(ctx context.Context, ids []int, cut bool)
}
