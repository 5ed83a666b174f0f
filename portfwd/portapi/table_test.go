// SPDX-License-Identifier: Apache-2.0

package portapi

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/slipway-net/slipway/portfwd"
)

// A fakeTable publishes in memory. Host ports that the kernel would choose are
// those from 40000 on.
type fakeTable struct {
	mu     sync.Mutex
	ids    int
	chosen uint16
	ports  []portfwd.Port
	cut    []int         // IDs that were removed with cut
	fail   error         // of Add, if not nil
	hold   chan struct{} // Add waits for its end, if not nil
}

func newFakeTable() *fakeTable { return &fakeTable{chosen: 40000} }

func (t *fakeTable) Add(ctx context.Context, rules []portfwd.Rule) ([]portfwd.Port, error) {
	if t.hold != nil {
		<-t.hold
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail != nil {
		return nil, t.fail
	}
	var added []portfwd.Port
	for _, r := range rules {
		for i := range r.Count {
			p := portfwd.Port{
				ID: t.ids + len(added) + 1, Proto: r.Proto, Interface: r.Interface, Loopback: r.Loopback, Defer: r.Defer,
				Host:      netip.AddrPortFrom(r.Host, r.HostPort+i),
				Container: netip.AddrPortFrom(r.Container, r.ContainerPort+i),
			}
			if r.HostPort == 0 {
				p.Host = netip.AddrPortFrom(r.Host, t.chosen)
				t.chosen++
			}
			for _, other := range slices.Concat(t.ports, added) {
				if other.Proto == p.Proto && other.Host == p.Host {
					return nil, fmt.Errorf("port %d: %w by port %d", p.Host.Port(), portfwd.ErrInUse, other.ID)
				}
			}
			added = append(added, p)
		}
	}
	t.ids += len(added)
	t.ports = append(t.ports, added...)
	return added, nil
}

func (t *fakeTable) Remove(_ context.Context, ids []int, cut bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if !slices.ContainsFunc(t.ports, func(p portfwd.Port) bool { return p.ID == id }) {
			return fmt.Errorf("port %d: %w", id, portfwd.ErrNoPort)
		}
	}
	t.ports = slices.DeleteFunc(t.ports, func(p portfwd.Port) bool { return slices.Contains(ids, p.ID) })
	if cut {
		t.cut = append(t.cut, ids...)
	}
	return nil
}

func (t *fakeTable) Ports() []portfwd.Port {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.ports)
}
