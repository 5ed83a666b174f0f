// SPDX-License-Identifier: Apache-2.0

package frag

import "time"

const (
	// units is how many units of eight bytes the largest payload has.
	units = (maxPayload + unit - 1) / unit
	// bufBytes is the size of a slot's buffer: whole units.
	bufBytes = units * unit
	// slotBytes is what a slot costs: its buffer and, rounded up to what Go's
	// allocator makes of it, the slot itself with its two bitmaps.
	slotBytes = bufBytes + 4<<10
)

// A slot is room for one datagram under way.
type slot struct {
	key      Key
	born     time.Time // when its first fragment came
	total    int       // bytes of the whole payload, -1 before the last fragment
	got      int       // bytes that have come
	end      int       // offset behind the last byte that has come
	poisoned bool
	have     bitmap // units that have come
	starts   bitmap // units at which a fragment begins
	buf      []byte
}

// An outcome is what a fragment did to its slot.
type outcome uint8

const (
	added       outcome = iota
	complete            // it was the last one missing
	duplicate           // it was there already
	overlapping         // it contradicts what was there
	poisoned            // the slot takes no more
)

func (s *slot) reset(now time.Time, key Key) {
	*s = slot{key: key, born: now, total: -1, buf: s.buf}
}

// add puts a well-formed fragment to its place.
func (s *slot) add(offset int, more bool, p []byte) outcome {
	end := offset + len(p)
	lo, hi := offset/unit, (end+unit-1)/unit
	switch {
	case s.poisoned:
		return poisoned
	case s.have.any(lo, hi):
		if s.repeats(lo, hi, more, end) && same(s.buf, offset, p) {
			return duplicate
		}
		return overlapping
	case s.total >= 0 && (!more || end > s.total):
		return overlapping
	case !more && s.end > end:
		return overlapping
	}
	copy(s.buf[offset:], p)
	s.have.set(lo, hi)
	s.starts.set(lo, lo+1)
	s.got += len(p)
	s.end = max(s.end, end)
	if !more {
		s.total = end
	}
	if s.got == s.total {
		return complete
	}
	return added
}

// repeats reports whether one earlier fragment had just these bounds.
func (s *slot) repeats(lo, hi int, more bool, end int) bool {
	switch {
	case !s.starts.any(lo, lo+1), s.starts.any(lo+1, hi), !s.have.all(lo, hi):
		return false
	case more == (end == s.total):
		return false
	case !more:
		return true
	}
	return s.starts.any(hi, hi+1) || !s.have.any(hi, hi+1)
}

// wordBits is the size of a bitmap's words.
const wordBits = 64

// A bitmap has a bit for each unit, and one more to ask about what follows the
// last.
type bitmap [units/wordBits + 1]uint64

// set sets the bits from lo on that are below hi.
func (b *bitmap) set(lo, hi int) {
	for lo < hi {
		w, m, n := mask(lo, hi)
		b[w] |= m
		lo += n
	}
}

// any reports whether one of the bits from lo on that are below hi is set.
func (b *bitmap) any(lo, hi int) bool {
	for lo < hi {
		w, m, n := mask(lo, hi)
		if b[w]&m != 0 {
			return true
		}
		lo += n
	}
	return false
}

// all reports whether all of the bits from lo on that are below hi are set.
func (b *bitmap) all(lo, hi int) bool {
	for lo < hi {
		w, m, n := mask(lo, hi)
		if b[w]&m != m {
			return false
		}
		lo += n
	}
	return true
}

// mask returns the word that bit lo is in, and the n bits from lo on that are
// both in it and below hi.
func mask(lo, hi int) (word int, bits uint64, n int) {
	shift := lo % wordBits
	n = min(wordBits-shift, hi-lo)
	return lo / wordBits, (^uint64(0) >> (wordBits - n)) << shift, n
}
