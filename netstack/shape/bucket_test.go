// SPDX-License-Identifier: Apache-2.0

package shape

import (
	"testing"
	"time"
)

// A clock is one that a test moves.
type clock struct{ now time.Time }

func (c *clock) move(d time.Duration) { c.now = c.now.Add(d) }

func newTest(r Rate) (*Bucket, *clock) {
	c := &clock{now: time.Unix(1, 0)}
	return newAt(r, func() time.Time { return c.now }), c
}

// TestStream moves as much as it may for ten seconds.
func TestStream(t *testing.T) {
	for _, tt := range []struct {
		rate Rate
		want int // bytes in ten seconds
	}{
		{Rate{Bytes: 1_250_000}, 12_500_000 + Quantum},
		{Rate{Bytes: 125_000_000}, 1_250_000_000 + 2_500_000},
		{Rate{Bytes: 1_250_000, Burst: 500_000}, 12_500_000 + 500_000},
		{Rate{Bytes: 1_250_000, Burst: 512 << 20}, 12_500_000 + 1_250_000},
		{Rate{Bytes: 1}, Quantum + 10},
	} {
		b, c := newTest(tt.rate)
		moved := 0
		for end := c.now.Add(10 * time.Second); c.now.Before(end); {
			if !b.Ready() {
				c.move(b.Wait())
				continue
			}
			b.Take(Quantum)
			moved += Quantum
		}
		if moved < tt.want-2*Quantum || moved > tt.want+2*Quantum {
			t.Errorf("%+v: %d bytes in 10 s, want about %d", tt.rate, moved, tt.want)
		}
	}
}

// TestDatagrams has a stream that takes all there is, and datagrams beside it.
func TestDatagrams(t *testing.T) {
	b, c := newTest(Rate{Bytes: 1_000_000})
	for range 1000 {
		for b.Ready() {
			b.Take(Quantum)
		}
		if !b.Pass(100) {
			t.Fatal("a datagram is dropped beside a stream")
		}
		c.move(10 * time.Millisecond)
	}
	// A flood is held to the rate.
	b, c = newTest(Rate{Bytes: 1_000_000})
	passed := 0
	for range 10_000 {
		for range 10 {
			if b.Pass(1000) {
				passed += 1000
			}
		}
		c.move(time.Millisecond)
	}
	if want := 10_000_000; passed < want || passed > want+3*Quantum {
		t.Errorf("%d bytes of datagrams in 10 s, want about %d", passed, want)
	}
}

func TestNoBound(t *testing.T) {
	b := New(Rate{})
	b.Take(1 << 40)
	if b != nil || !b.Ready() || !b.Pass(1<<40) {
		t.Error("the zero rate bounds something")
	}
}

func TestParseRate(t *testing.T) {
	for s, want := range map[string]Rate{
		"8": {1, 0}, "10M": {1_250_000, 0}, "1500k:64k": {187_500, 8000}, "1G:4294967295": {125_000_000, 536_870_911},
	} {
		if got, err := ParseRate(s); err != nil || got != want {
			t.Errorf("ParseRate(%q): %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "7", "-8", "10m", "10 M", "10M:", ":10M", "M", "99999999999999999999", "99999999999999G", "2000G", "1M:1M:1M"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("ParseRate(%q): %+v, want an error", s, got)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	f.Add("10M:64k")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRate(s); err == nil && (r.Bytes < MinRate || r.Bytes > MaxRate) {
			t.Errorf("ParseRate(%q): %+v", s, r)
		}
	})
}
