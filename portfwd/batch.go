// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"context"
	"fmt"
	"net/netip"
)

// A batch is ports that are to be published together, and their sockets.
type batch struct {
	ports     []Port
	listeners []Listener // of the same order; FD is -1 where none is open
	low       lowPorts   // the table's, for errors
}

// open makes all sockets. Those whose port the kernel chooses come last, lest it
// choose one that another rule wants.
func (b *batch) open(ctx context.Context, search bool) error {
	b.listeners = make([]Listener, len(b.ports))
	for i := range b.listeners {
		b.listeners[i].FD = -1
	}
	for _, chosen := range []bool{false, true} {
		for i, p := range b.ports {
			if (p.Host.Port() == 0) != chosen {
				continue
			}
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("publish %s: %w", p, err)
			}
			if err := b.bind(i); err != nil {
				return b.low.explain(p.Rule(), err, search)
			}
		}
	}
	for i, l := range b.listeners {
		if l.Proto == TCP {
			if err := listen(l.FD); err != nil {
				return b.low.explain(b.ports[i].Rule(), err, search)
			}
		}
	}
	return nil
}

// bind makes the i-th socket.
func (b *batch) bind(i int) error {
	p := &b.ports[i]
	fd, host, err := bind(p.Rule())
	if err != nil {
		return err
	}
	p.Host = netip.AddrPortFrom(p.Host.Addr(), host.Port())
	b.listeners[i] = Listener{Proto: p.Proto, FD: fd, Host: host, Container: p.Container, Loopback: p.Loopback}
	return nil
}

// close closes the sockets that are open.
func (b *batch) close() {
	for _, l := range b.listeners {
		if l.FD >= 0 {
			closeSocket(l.FD)
		}
	}
}
