// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"context"
	"slices"
)

// What a Follower asks of the Table. A port that a user publishes, or removes, goes
// before one that is followed.

// has reports whether a port is published.
func (t *Table) has(id int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.ports[id]
	return ok
}

// busy reports whether the host's port is that of another of the Table.
func (t *Table) busy(p Port) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.taken[p.hostKey()], p.collides)
}

// concede takes out of wanted the container's ports that a user has published, or
// removed. That they were removed is forgotten when their services end, which are
// those that the Follower follows but does not want.
func (t *Table) concede(wanted map[portKey]Rule, follows func(portKey) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.dismissed {
		if _, ok := wanted[k]; ok {
			delete(wanted, k)
		} else if follows(k) {
			delete(t.dismissed, k)
		}
	}
	for k := range wanted {
		if t.led[k] > 0 {
			delete(wanted, k)
		}
	}
}

// removeAuto removes ports, of which some may be gone.
func (t *Table) removeAuto(ctx context.Context, ids []int) error {
	if len(ids) == 0 {
		return nil
	}
	unlock, err := t.edit(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	t.withdraw(ctx, ids, false)
	return nil
}
