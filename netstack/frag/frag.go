// SPDX-License-Identifier: Apache-2.0

package frag

import (
	"bytes"
	"net/netip"
	"slices"
	"time"
)

const (
	// MaxMemory bounds the bytes that all datagrams under way may hold.
	MaxMemory = 4 << 20
	// MaxDatagrams is how many datagrams may be under way at a time.
	MaxDatagrams = MaxMemory / slotBytes
	// Timeout is how long a datagram may take from its first fragment to its
	// last one. Linux gives IPv4 as much (net.ipv4.ipfrag_time); RFC 791 §3.2
	// proposes 15 s and RFC 8200 §4.5 allows up to 60 s. One value serves both:
	// fragments follow each other at once on a tap, so that after 30 s the
	// missing one is lost, and slots expire in the order they were taken.
	Timeout = 30 * time.Second
)

// Largest payloads, bytes. The IPv4 total length counts the header, the IPv6
// payload length does not (RFC 791 §3.1, RFC 8200 §3).
const (
	maxLength  = 65535
	minHeader4 = 20
	maxPayload = maxLength
)

// unit is what fragment offsets count in, bytes (RFC 791 §3.1, RFC 8200 §4.5).
const unit = 8

// A Key names the datagram that a fragment belongs to (RFC 791 §2.3; RFC 8200
// §4.5 leaves out the protocol, for which IPv6 callers use 0, since only the
// first fragment's next header counts).
type Key struct {
	Src, Dst netip.Addr
	ID       uint32
	Proto    uint8
}

// Stats counts what became of fragments and datagrams since New.
type Stats struct {
	Fragments   uint64 // fragments given to Add
	Reassembled uint64 // datagrams returned whole
	Malformed   uint64 // fragments dropped: bad offset, length or size
	Duplicates  uint64 // fragments dropped: exact repetitions
	Overlaps    uint64 // datagrams poisoned by overlapping or contradicting fragments
	Poisoned    uint64 // fragments dropped: they came for a poisoned datagram
	Expired     uint64 // datagrams dropped: Timeout
	Evicted     uint64 // datagrams dropped: their slot was needed
}

// A Reassembler holds the datagrams under way. It must not be used by two
// goroutines at a time. Make one with New.
type Reassembler struct {
	taken []*slot // oldest first
	free  []*slot
	stats Stats
}

// New returns a Reassembler, which takes memory only when the first fragment
// comes.
func New() *Reassembler { return &Reassembler{} }

// Add takes a fragment: its payload, which lies offset bytes into that of the
// datagram, and whether more follow it. If the datagram is now complete it
// returns its payload, which is valid until the next call of Add; otherwise,
// and for whatever it drops, ok is false. Add keeps nothing of payload.
//
// A fragment that is the whole datagram, as in RFC 6946, is returned as it is,
// without regard to others of its key.
func (r *Reassembler) Add(now time.Time, key Key, offset int, more bool, payload []byte) (whole []byte, ok bool) {
	r.stats.Fragments++
	if !wellFormed(key, offset, more, len(payload)) {
		r.stats.Malformed++
		return nil, false
	}
	if offset == 0 && !more {
		r.stats.Reassembled++
		return payload, true
	}
	r.expire(now)
	s := r.find(key)
	if s == nil {
		s = r.take(now, key)
	}
	switch s.add(offset, more, payload) {
	case poisoned:
		r.stats.Poisoned++
	case duplicate:
		r.stats.Duplicates++
	case overlapping:
		r.stats.Overlaps++
		s.poisoned = true
	case complete:
		r.stats.Reassembled++
		whole = s.buf[:s.total]
		r.release(slices.Index(r.taken, s))
		return whole, true
	}
	return nil, false
}

// Expire drops the datagrams whose time is over and gives memory that is not in
// use back. Add drops them too; call Expire now and then, while Memory is not 0,
// so that memory is not held when no fragments come.
func (r *Reassembler) Expire(now time.Time) {
	r.expire(now)
	if len(r.taken) == 0 {
		r.taken, r.free = nil, nil
	}
}

// Pending returns how many datagrams are under way.
func (r *Reassembler) Pending() int { return len(r.taken) }

// Memory returns how many bytes the Reassembler holds, free slots included. It
// is never above MaxMemory.
func (r *Reassembler) Memory() int { return (len(r.taken) + len(r.free)) * slotBytes }

// Stats returns the counters.
func (r *Reassembler) Stats() Stats { return r.stats }

func (r *Reassembler) expire(now time.Time) {
	for len(r.taken) > 0 && now.Sub(r.taken[0].born) >= Timeout {
		r.stats.Expired++
		r.release(0)
	}
}

// find looks from the newest slot on, where the datagram is that is just coming.
func (r *Reassembler) find(key Key) *slot {
	for _, s := range slices.Backward(r.taken) {
		if s.key.ID == key.ID && s.key == key {
			return s
		}
	}
	return nil
}

// take returns an empty slot for the key, at the cost of the oldest one if need
// be.
func (r *Reassembler) take(now time.Time, key Key) *slot {
	if len(r.taken) == MaxDatagrams {
		r.stats.Evicted++
		r.release(0)
	}
	var s *slot
	if n := len(r.free); n > 0 {
		s, r.free = r.free[n-1], r.free[:n-1]
	} else {
		s = &slot{buf: make([]byte, bufBytes)}
	}
	s.reset(now, key)
	r.taken = append(r.taken, s)
	return s
}

// release moves the i-th taken slot to the free ones.
func (r *Reassembler) release(i int) {
	s := r.taken[i]
	r.taken = slices.Delete(r.taken, i, i+1)
	r.free = append(r.free, s)
}

// wellFormed reports whether a fragment of n bytes can be part of a datagram.
func wellFormed(key Key, offset int, more bool, n int) bool {
	limit := maxPayload
	if key.Src.Is4() {
		limit -= minHeader4
	}
	switch {
	case offset < 0 || offset > limit || n > limit-offset:
		return false
	case offset%unit != 0:
		return false
	case more && n%unit != 0:
		return false
	case n == 0 && (more || offset > 0):
		return false
	}
	return true
}

// same reports whether p lies in buf at the offset already.
func same(buf []byte, offset int, p []byte) bool {
	return bytes.Equal(buf[offset:offset+len(p)], p)
}
