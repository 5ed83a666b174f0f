// SPDX-License-Identifier: Apache-2.0

package frag_test

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/frag"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func key(id uint32) frag.Key {
	return frag.Key{Src: netip.MustParseAddr("10.0.2.100"), Dst: netip.MustParseAddr("192.0.2.1"), ID: id, Proto: 17}
}

func key6(id uint32) frag.Key {
	return frag.Key{Src: netip.MustParseAddr("fd00::100"), Dst: netip.MustParseAddr("2001:db8::1"), ID: id}
}

// fill returns n bytes, none of which repeats soon, so that a misplaced one shows.
func fill(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8)
	}
	return b
}

type piece struct {
	offset int
	more   bool
	data   []byte
}

// cut cuts a payload to pieces of size bytes, a multiple of eight.
func cut(payload []byte, size int) []piece {
	var ps []piece
	for off := 0; off < len(payload); off += size {
		end := min(off+size, len(payload))
		ps = append(ps, piece{off, end < len(payload), payload[off:end]})
	}
	return ps
}

func TestAdd(t *testing.T) {
	p := fill(3000)
	at := func(lo, hi int, more bool) piece { return piece{lo, more, p[lo:hi]} }
	changed := func(q piece) piece {
		q.data = bytes.Clone(q.data)
		q.data[0] ^= 1
		return q
	}
	first, second, last := at(0, 1480, true), at(1480, 2960, true), at(2960, 3000, false)
	tests := []struct {
		name   string
		pieces []piece
		whole  int // bytes, 0: not complete
		want   frag.Stats
	}{
		{"in order", []piece{first, second, last}, 3000, frag.Stats{Reassembled: 1}},
		{"backwards", []piece{last, second, first}, 3000, frag.Stats{Reassembled: 1}},
		{"gap in the middle", []piece{first, last}, 0, frag.Stats{}},
		{"first missing", []piece{second, last}, 0, frag.Stats{}},
		{"last missing", []piece{first, second}, 0, frag.Stats{}},
		{"atomic", []piece{at(0, 100, false)}, 100, frag.Stats{Reassembled: 1}},
		{"atomic beside others", []piece{first, at(0, 100, false)}, 100, frag.Stats{Reassembled: 1}},
		{"duplicates", []piece{first, first, last, last, second}, 3000, frag.Stats{Reassembled: 1, Duplicates: 2}},
		{"duplicate between neighbours", []piece{first, second, second, first, last}, 3000, frag.Stats{Reassembled: 1, Duplicates: 2}},
		{"other bytes in the same place", []piece{first, changed(first), second, last}, 0, frag.Stats{Overlaps: 1, Poisoned: 2}},
		{"overlap at the end", []piece{first, at(1472, 2960, true), last}, 0, frag.Stats{Overlaps: 1, Poisoned: 1}},
		{"overlap at the start", []piece{second, at(0, 1488, true), last}, 0, frag.Stats{Overlaps: 1, Poisoned: 1}},
		{"contained", []piece{first, at(8, 16, true)}, 0, frag.Stats{Overlaps: 1}},
		{"contained at the start", []piece{first, at(0, 16, true)}, 0, frag.Stats{Overlaps: 1}},
		{"contained at the end", []piece{first, at(1472, 1480, true)}, 0, frag.Stats{Overlaps: 1}},
		{"two as one", []piece{first, second, at(0, 2960, true)}, 0, frag.Stats{Overlaps: 1}},
		{"one as two", []piece{at(0, 2960, true), first}, 0, frag.Stats{Overlaps: 1}},
		{"two ends", []piece{last, at(1480, 2960, false)}, 0, frag.Stats{Overlaps: 1}},
		{"behind the end", []piece{at(1480, 2960, false), at(2960, 2968, true)}, 0, frag.Stats{Overlaps: 1}},
		{"end before what came", []piece{second, at(1400, 1480, false)}, 0, frag.Stats{Overlaps: 1}},
		{"duplicate that now ends", []piece{second, at(1480, 2960, false)}, 0, frag.Stats{Overlaps: 1}},
		{"duplicate that no longer ends", []piece{at(1480, 2960, false), second}, 0, frag.Stats{Overlaps: 1}},
		{"odd length", []piece{{0, true, p[:1479]}}, 0, frag.Stats{Malformed: 1}},
		{"odd offset", []piece{{4, true, p[:8]}}, 0, frag.Stats{Malformed: 1}},
		{"negative offset", []piece{{-8, true, p[:8]}}, 0, frag.Stats{Malformed: 1}},
		{"huge offset", []piece{{1 << 40, false, p[:8]}}, 0, frag.Stats{Malformed: 1}},
		{"empty", []piece{{0, true, nil}}, 0, frag.Stats{Malformed: 1}},
		{"empty end", []piece{{8, false, nil}}, 0, frag.Stats{Malformed: 1}},
		{"malformed does not poison", []piece{first, {8, true, p[:1]}, second, last}, 3000, frag.Stats{Reassembled: 1, Malformed: 1}},
	}
	for _, tt := range tests {
		for _, k := range []frag.Key{key(1), key6(1)} {
			t.Run(tt.name+" "+k.Src.String(), func(t *testing.T) {
				r := frag.New()
				var got []byte
				for i, q := range tt.pieces {
					whole, ok := r.Add(epoch, k, q.offset, q.more, q.data)
					if ok && i != len(tt.pieces)-1 {
						t.Fatalf("whole after fragment %d", i+1)
					}
					got = whole
				}
				if !bytes.Equal(got, p[:tt.whole]) {
					t.Errorf("got %d bytes, want the first %d of the payload", len(got), tt.whole)
				}
				tt.want.Fragments = uint64(len(tt.pieces))
				if diff := cmp.Diff(tt.want, r.Stats()); diff != "" {
					t.Errorf("counters (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestLargest(t *testing.T) {
	tests := []struct {
		name string
		key  frag.Key
		max  int
	}{{"v4", key(1), 65515}, {"v6", key6(1), 65535}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, n := range []int{tt.max, tt.max + 1} {
				r := frag.New()
				p := fill(n)
				var got []byte
				for _, q := range cut(p, 8) {
					if whole, ok := r.Add(epoch, tt.key, q.offset, q.more, q.data); ok {
						got = whole
					}
				}
				if want := n <= tt.max; bytes.Equal(got, p) != want {
					t.Errorf("%d bytes: returned whole: %v, want %v", n, !want, want)
				}
			}
		})
	}
}

func TestKeysAreApart(t *testing.T) {
	a := key(1)
	others := []frag.Key{key(2), key6(1)}
	b := a
	b.Src = netip.MustParseAddr("10.0.2.101")
	c := a
	c.Dst = netip.MustParseAddr("192.0.2.2")
	d := a
	d.Proto = 6
	p := fill(16)
	for _, k := range append(others, b, c, d) {
		r := frag.New()
		r.Add(epoch, a, 0, true, p[:8])
		if _, ok := r.Add(epoch, k, 8, false, p[8:]); ok {
			t.Errorf("fragments of %v and %v were joined", a, k)
		}
	}
}

func TestExpire(t *testing.T) {
	r := frag.New()
	p := fill(16)
	r.Add(epoch, key(1), 0, true, p[:8])
	r.Add(epoch.Add(time.Second), key(2), 0, true, p[:8])
	r.Expire(epoch.Add(frag.Timeout))
	if got := r.Pending(); got != 1 {
		t.Errorf("%d datagrams after the first one's time, want 1", got)
	}
	late := epoch.Add(time.Second + frag.Timeout)
	if _, ok := r.Add(late, key(2), 8, false, p[8:]); ok {
		t.Error("a datagram was completed after its time")
	}
	if got := r.Stats().Expired; got != 2 {
		t.Errorf("%d datagrams counted as expired, want 2", got)
	}
	r.Expire(late.Add(frag.Timeout))
	if r.Pending() != 0 || r.Memory() != 0 {
		t.Errorf("%d datagrams and %d bytes at rest, want none", r.Pending(), r.Memory())
	}
}

func TestPoisonExpires(t *testing.T) {
	r := frag.New()
	p := fill(16)
	r.Add(epoch, key(1), 0, true, p[:8])
	r.Add(epoch, key(1), 0, true, p[8:])
	later := epoch.Add(frag.Timeout)
	r.Add(later, key(1), 0, true, p[:8])
	if got, ok := r.Add(later, key(1), 8, false, p[8:]); !ok || !bytes.Equal(got, p) {
		t.Error("the key of a poisoned datagram cannot be used again after its time")
	}
}

func TestEvictOldest(t *testing.T) {
	r := frag.New()
	p := fill(16)
	for id := range uint32(frag.MaxDatagrams + 1) {
		r.Add(epoch, key(id), 0, true, p[:8])
	}
	if got := r.Stats().Evicted; got != 1 {
		t.Errorf("%d evicted, want 1", got)
	}
	if got := r.Memory(); got > frag.MaxMemory {
		t.Errorf("%d bytes held, above the limit of %d", got, frag.MaxMemory)
	}
	for id := range uint32(frag.MaxDatagrams + 1) {
		if id == 0 {
			continue // asked last: it would take the place of another
		}
		if _, ok := r.Add(epoch, key(id), 8, false, p[8:]); !ok {
			t.Errorf("datagram %d is lost, want only the oldest one lost", id)
		}
	}
	if _, ok := r.Add(epoch, key(0), 8, false, p[8:]); ok {
		t.Error("the oldest datagram was not the one evicted")
	}
}

func TestNoAllocationAtWork(t *testing.T) {
	r := frag.New()
	ps := cut(fill(65000), 1480)
	n := testing.AllocsPerRun(10, func() {
		for _, q := range ps {
			r.Add(epoch, key(1), q.offset, q.more, q.data)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for each datagram, want none", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	r := frag.New()
	ps := cut(fill(65000), 1480)
	b.SetBytes(65000)
	for b.Loop() {
		for _, q := range ps {
			r.Add(epoch, key(1), q.offset, q.more, q.data)
		}
	}
}

// FuzzPermutations holds that datagrams come out as they went in, whatever the
// order of their fragments and however they are mixed and repeated.
func FuzzPermutations(f *testing.F) {
	f.Add(uint64(1), uint16(3000), uint16(1480), uint8(3))
	f.Add(uint64(2), uint16(65515), uint16(8), uint8(1))
	f.Add(uint64(3), uint16(17), uint16(16), uint8(20))
	f.Fuzz(func(t *testing.T, seed uint64, length, size uint16, datagrams uint8) {
		type item struct {
			id uint32
			piece
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		p := fill(min(int(length)+1, 65515))
		step := max(int(size)/8*8, (len(p)/256+8)/8*8) // at most a few hundred pieces
		count := uint32(datagrams)%frag.MaxDatagrams + 1
		var items []item
		for id := range count {
			for _, q := range cut(p, step) {
				items = append(items, item{id, q})
			}
		}
		rng.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		r := frag.New()
		whole := uint32(0)
		for _, it := range items {
			got, ok := r.Add(epoch, key(it.id), it.offset, it.more, it.data)
			if !ok {
				r.Add(epoch, key(it.id), it.offset, it.more, it.data)
				continue
			}
			whole++
			if !bytes.Equal(got, p) {
				t.Fatalf("datagram %d came out changed", it.id)
			}
		}
		if s := r.Stats(); whole != count || s.Overlaps+s.Evicted+s.Malformed != 0 {
			t.Fatalf("%d of %d datagrams came out: %+v", whole, count, s)
		}
	})
}

// model is the slow and obvious reassembly of one datagram.
type model struct {
	pieces   []piece
	poisoned bool
}

func (m *model) add(q piece) ([]byte, bool) {
	end := q.offset + len(q.data)
	if q.offset == 0 && !q.more {
		return q.data, true
	}
	if m.poisoned {
		return nil, false
	}
	got, total := len(q.data), -1
	if !q.more {
		total = end
	}
	for _, o := range m.pieces {
		oEnd := o.offset + len(o.data)
		if o.offset == q.offset && oEnd == end && o.more == q.more && bytes.Equal(o.data, q.data) {
			return nil, false
		}
		// An end that is not a whole unit still fills its unit.
		up := func(n int) int { return (n + 7) / 8 * 8 }
		if q.offset < up(oEnd) && o.offset < up(end) || !o.more && (!q.more || end > oEnd) || !q.more && oEnd > end {
			m.poisoned = true
			return nil, false
		}
		got += len(o.data)
		if !o.more {
			total = oEnd
		}
	}
	m.pieces = append(m.pieces, q)
	if got != total {
		return nil, false
	}
	whole := make([]byte, total)
	for _, o := range m.pieces {
		copy(whole[o.offset:], o.data)
	}
	*m = model{}
	return whole, true
}

// FuzzHostile feeds arbitrary fragments and compares with the model.
func FuzzHostile(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 0, 1, 1, 0})
	f.Add([]byte{1, 0, 2, 1, 1, 1, 2, 1, 1, 2, 1, 0})
	f.Add([]byte{2, 255, 255, 3, 2, 0, 4, 1})
	text := fill(1 << 16)
	f.Fuzz(func(t *testing.T, ops []byte) {
		const opLen = 4
		r := frag.New()
		models := map[frag.Key]*model{}
		for ; len(ops) >= opLen; ops = ops[opLen:] {
			k := key(uint32(ops[0] & 3))
			if ops[0]&4 != 0 {
				k = key6(k.ID)
			}
			q := piece{offset: int(ops[1]) * 8, more: ops[3]&1 != 0}
			n := int(ops[2]) * 8
			if !q.more {
				n -= int(ops[3]>>1) & 7
			}
			if n <= 0 {
				continue
			}
			if ops[0]&8 != 0 {
				q.offset += 65000 / 8 * 8
			}
			shift := int(ops[3]>>4) & 1
			q.data = text[(q.offset+shift)%4096:][:n]
			limit := 65535
			if k.Src.Is4() {
				limit = 65515
			}
			m := models[k]
			if m == nil {
				m = &model{}
				models[k] = m
			}
			var want []byte
			var wantOK bool
			if q.offset+n <= limit {
				want, wantOK = m.add(q)
			}
			got, ok := r.Add(epoch, k, q.offset, q.more, q.data)
			if ok != wantOK || !bytes.Equal(got, want) {
				t.Fatalf("Add(%v, %d, %v, %d bytes) = %d bytes, %v; want %d bytes, %v", k, q.offset, q.more, n, len(got), ok, len(want), wantOK)
			}
			if r.Memory() > frag.MaxMemory {
				t.Fatalf("%d bytes held", r.Memory())
			}
		}
	})
}

func TestSlotBudget(t *testing.T) {
	if frag.SlotSize > frag.SlotBudget {
		t.Errorf("a slot takes %d bytes besides its buffer, MaxMemory reckons %d", frag.SlotSize, frag.SlotBudget)
	}
}
