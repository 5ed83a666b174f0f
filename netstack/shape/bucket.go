// SPDX-License-Identifier: Apache-2.0

package shape

import "time"

// Quantum is the most that a stream should move between two calls of Ready (bytes): the
// largest packet.
const Quantum = 64 << 10

const (
	// burstTime is how much of the rate a burst is where none is given.
	burstTime = 20 * time.Millisecond
	// maxBurstTime is the most of the rate that a burst may be: containerd's CRI service
	// asks for bursts of 512 MiB, whatever the rate.
	maxBurstTime = time.Second
	// waitTime is how much of the rate a stream waits for that found nothing. Less costs
	// more turns, more makes the traffic uneven.
	waitTime = 2 * time.Millisecond
	// minWait is the shortest wait: for one byte at more than a gigabit a second, none
	// would be left.
	minWait = 100 * time.Microsecond
)

// A Rate is what a Bucket is to let pass. The zero Rate is no bound.
type Rate struct {
	Bytes uint64 // per second
	Burst uint64 // bytes at once; 0 means 20 ms of the rate or a Quantum, whichever is more
}

// A Bucket bounds what passes. Make it with New; it is for one goroutine at a time. A
// nil Bucket has no bound.
type Bucket struct {
	rate, burst float64 // bytes per second, bytes
	tokens      float64 // bytes; less than 0 is debt
	at          time.Time
	now         func() time.Time
}

// New returns a full bucket, or nil for the zero Rate.
func New(r Rate) *Bucket { return newAt(r, time.Now) }

func newAt(r Rate, now func() time.Time) *Bucket {
	if r.Bytes == 0 {
		return nil
	}
	rate := float64(r.Bytes)
	burst := float64(r.Burst)
	if r.Burst == 0 {
		burst = max(Quantum, rate*burstTime.Seconds())
	}
	burst = min(burst, max(Quantum, rate*maxBurstTime.Seconds()))
	return &Bucket{rate: rate, burst: burst, tokens: burst, at: now(), now: now}
}

// fill adds what has come in since the last time.
func (b *Bucket) fill() {
	now := b.now()
	b.tokens = min(b.burst, b.tokens+now.Sub(b.at).Seconds()*b.rate)
	b.at = now
}

// Ready reports whether a stream may move a Quantum, for which Take is called after
// that.
func (b *Bucket) Ready() bool {
	if b == nil {
		return true
	}
	b.fill()
	return b.tokens > 0
}

// Take takes n bytes, which have passed.
func (b *Bucket) Take(n int) {
	if b != nil {
		b.tokens -= float64(n)
	}
}

// Pass takes n bytes and reports whether they may pass, which they may up to a debt of
// a burst or a Quantum, whichever is more; otherwise they are to be dropped.
func (b *Bucket) Pass(n int) bool {
	if b == nil {
		return true
	}
	b.fill()
	if b.tokens <= -max(b.burst, Quantum) {
		return false
	}
	b.tokens -= float64(n)
	return true
}

// Wait returns how long a stream is to wait that was not Ready.
func (b *Bucket) Wait() time.Duration {
	want := b.rate*waitTime.Seconds() - b.tokens
	return max(minWait, time.Duration(want/b.rate*float64(time.Second)))
}
