// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/tap"
)

// A pool holds the addresses of one family, the best first.
type pool struct {
	leases []lease
}

// A lease is an address and who has it. An owner stays named after the time is
// over, so that the same client gets the same address again.
type lease struct {
	addr     netip.Addr
	owner    string // client key, "" if nobody ever had it or it is declined
	until    time.Time
	declined bool
}

// newPool returns the pool of f: no addresses if f is off.
func newPool(f tap.Family) pool {
	var p pool
	if !f.Enabled() {
		return p
	}
	p.leases = append(p.leases, lease{addr: f.Container})
	for a := f.LeaseFirst; a.IsValid() && a.Compare(f.LeaseLast) <= 0; a = a.Next() {
		if a != f.Container && !f.Ours(a) {
			p.leases = append(p.leases, lease{addr: a})
		}
	}
	return p
}

// offer picks an address for the client and keeps it for d: the one it has or
// had, else the one it wants if that is free, else the first that nobody ever
// had, else the one whose time was over first. It returns nil if none is free.
func (p *pool) offer(owner string, want netip.Addr, now time.Time, d time.Duration) *lease {
	l := p.of(owner)
	if l == nil {
		l = p.pick(want, now)
	}
	if l == nil {
		return nil
	}
	l.hold(owner, now, d)
	return l
}

// claim binds the address to the client for d if it is free or the client's.
func (p *pool) claim(owner string, a netip.Addr, now time.Time, d time.Duration) *lease {
	l := p.find(a)
	if l == nil || l.declined && now.Before(l.until) || l.owner != owner && now.Before(l.until) {
		return nil
	}
	if had := p.of(owner); had != nil && had != l {
		*had = lease{addr: had.addr} // one client, one address
	}
	l.hold(owner, now, d)
	return l
}

// release ends the client's lease of the address. It reports whether there was one.
func (p *pool) release(owner string, a netip.Addr, now time.Time) bool {
	l := p.find(a)
	if l == nil || l.owner != owner {
		return false
	}
	l.until = now
	return true
}

// decline takes the client's address out of use for d. It reports whether it had it.
func (p *pool) decline(owner string, a netip.Addr, now time.Time, d time.Duration) bool {
	l := p.find(a)
	if l == nil || l.owner != owner {
		return false
	}
	*l = lease{addr: a, until: now.Add(d), declined: true}
	return true
}

// of returns the lease that the client has or had last.
func (p *pool) of(owner string) *lease {
	for i := range p.leases {
		if p.leases[i].owner == owner {
			return &p.leases[i]
		}
	}
	return nil
}

func (p *pool) find(a netip.Addr) *lease {
	for i := range p.leases {
		if p.leases[i].addr == a {
			return &p.leases[i]
		}
	}
	return nil
}

func (p *pool) pick(want netip.Addr, now time.Time) *lease {
	if l := p.find(want); l != nil && !now.Before(l.until) {
		return l
	}
	var best *lease
	for i := range p.leases {
		l := &p.leases[i]
		if !now.Before(l.until) && (best == nil || l.until.Before(best.until)) {
			best = l // the zero time, of those never given, is before all
		}
	}
	return best
}

// hold gives the lease to the owner until d from now, never shortening what the
// same owner has.
func (l *lease) hold(owner string, now time.Time, d time.Duration) {
	until := now.Add(d)
	if l.owner == owner && l.until.After(until) {
		until = l.until
	}
	*l = lease{addr: l.addr, owner: owner, until: until}
}
