// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"context"
	"net/netip"
	"sync"

	"github.com/slipway-net/slipway/netstack/loop"
)

// An Inbound is a socket of the host's, and where in the container leads what comes
// in there.
type Inbound struct {
	// ID is its owner's name for it, unique among those that are published.
	ID int
	// UDP tells a UDP socket, which is bound, from a TCP socket, which listens.
	UDP bool
	// FD is non-blocking. One for both families is an IPv6 socket.
	FD int
	// Host is what the socket is bound to.
	Host netip.AddrPort
	// Container is where to in the container. The zero Addr means the plan's address
	// of the client's family, or, where the container has none of that or nobody listens
	// there, of the other.
	Container netip.AddrPort
	// Loopback means the container's loopback, whatever the address of Container: IPv4,
	// and where nobody listens there IPv6.
	Loopback bool
}

// An inboundTable has what is published. It belongs to the loop, but for what waits
// to be taken over.
type inboundTable struct {
	n         *Network
	listeners map[int]*listener
	udp       inboundUDP
	inlets    [2]inlet // of IPv4 and IPv6
	port      uint16   // the last that was made up for a client

	mu      sync.Mutex
	waiting []Inbound
	closed  bool
}

// A listener is an Inbound that is served.
type listener struct {
	Inbound
	n     *Network
	token loop.Token
	stuck bool     // a connection waits for which there was no descriptor
	udp   *udpPort // of a UDP socket
}

func (t *inboundTable) init(n *Network) {
	t.n = n
	t.listeners = make(map[int]*listener)
	t.udp.init(n)
	t.inlets = [...]inlet{inlet4(n), inlet6(n)}
}

// Publish starts to serve the sockets, which are the Network's from now on, and
// returns at once. It may be called from any goroutine, also before Run.
func (n *Network) Publish(in []Inbound) {
	t := &n.inbound
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		for _, i := range in {
			closeFD(i.FD)
		}
		return
	}
	t.waiting = append(t.waiting, in...)
	n.loop.Post(t.adopt)
}

// adopt takes over what waits to be.
func (t *inboundTable) adopt() {
	t.mu.Lock()
	in := t.waiting
	t.waiting = nil
	t.mu.Unlock()
	for _, i := range in {
		if !i.UDP {
			t.n.tcp.kernel.openFactory()
		}
		l := &listener{Inbound: i, n: t.n}
		if err := l.open(); err != nil {
			t.n.log.Error("a published port is not served", "host", i.Host, "err", err)
			closeFD(i.FD)
			continue
		}
		t.listeners[i.ID] = l
	}
}

// retry lets those go on that something was lacking for.
func (t *inboundTable) retry() {
	for _, l := range t.listeners {
		if l.stuck {
			l.stuck = false
			l.acceptTCP()
		}
	}
}

// Withdraw closes the sockets of those IDs and returns when that is done, or ctx is:
// while Run does not run, nobody does it. The TCP flows that came by them go on, unless
// cut is set; UDP has no connections, and what its clients send next is refused by the
// host. It may be called from any goroutine.
func (n *Network) Withdraw(ctx context.Context, ids []int, cut bool) {
	done := make(chan struct{})
	n.loop.Post(func() {
		defer close(done)
		for _, id := range ids {
			if l := n.inbound.listeners[id]; l != nil {
				l.close(cut)
			}
		}
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// open starts the service.
func (l *listener) open() error {
	if l.UDP {
		if err := l.openUDP(); err != nil {
			return err
		}
	}
	var err error
	l.token, err = l.n.loop.Add(l.FD, loop.Readable|loop.Edge, l)
	return err
}

// Ready is called by the loop when something has come in.
func (l *listener) Ready(ev loop.Events) {
	if l.UDP {
		l.receiveUDP(ev)
		return
	}
	l.acceptTCP()
}

// close stops the service.
func (l *listener) close(cut bool) {
	delete(l.n.inbound.listeners, l.ID)
	if l.UDP {
		l.closeUDP() // while what it sends by is open
	}
	l.n.loop.Remove(l.FD, l.token)
	closeFD(l.FD)
	if !l.UDP {
		l.closeTCP(cut)
	}
}

// closeAll closes all of them, when the loop runs no more.
func (t *inboundTable) closeAll() {
	for _, l := range t.listeners {
		l.close(true)
	}
	for i := range t.inlets {
		t.inlets[i].close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, i := range t.waiting {
		closeFD(i.FD)
	}
	t.waiting = nil
}
