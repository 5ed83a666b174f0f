// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"time"
)

// Sizes of a relay's buffers, in bytes: for acknowledgements and single segments,
// for short trains of segments, and for the longest.
const (
	relaySmall = 2 << 10
	relayTrain = 16 << 10
	relayFrame = 10 + 14 + 4 + 65535 // virtio header, Ethernet header, tag, IP packet
)

// A delayLine is a first-in-first-out queue whose frames are due a fixed time after
// they came. One goroutine may push and one pop.
type delayLine struct {
	delay time.Duration
	limit int

	mu     sync.Mutex
	more   sync.Cond // a frame came, or the end
	frames []delayedFrame
	head   int // of frames: the next to pop
	held   int // bytes of buffers in frames
	free   map[int][][]byte
	closed bool
	stats  RelayStats
}

type delayedFrame struct {
	due  time.Time
	data []byte
}

// newDelayLine makes a line that holds frames of at most limit bytes.
func newDelayLine(delay time.Duration, limit int) *delayLine {
	l := &delayLine{delay: delay, limit: limit, free: map[int][][]byte{}}
	l.more.L = &l.mu
	return l
}

// push takes over a frame that came now, or drops it where the line is full. The
// frame must be from buffer.
func (l *delayLine) push(now time.Time, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held+cap(data) > l.limit {
		l.stats.Dropped++
		l.recycle(data)
		return
	}
	l.frames = append(l.frames, delayedFrame{due: now.Add(l.delay), data: data})
	l.held += cap(data)
	l.stats.Frames++
	l.stats.Bytes += int64(len(data))
	l.stats.MaxHeld = max(l.stats.MaxHeld, l.held)
	l.more.Signal()
}

// pop waits for the next frame and returns it with the time at which it is due; ok
// is false after close. The frame goes back by release.
func (l *delayLine) pop() (data []byte, due time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.head == len(l.frames) && !l.closed {
		l.more.Wait()
	}
	if l.closed {
		return nil, time.Time{}, false
	}
	f := l.frames[l.head]
	l.frames[l.head] = delayedFrame{}
	l.held -= cap(f.data)
	l.head++
	if l.head > len(l.frames)/2 {
		l.frames = append(l.frames[:0], l.frames[l.head:]...)
		l.head = 0
	}
	return f.data, f.due, true
}

// buffer returns a buffer of n bytes: relaySmall, relayTrain or relayFrame.
func (l *delayLine) buffer(n int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.free[n]; len(f) > 0 {
		l.free[n] = f[:len(f)-1]
		return f[len(f)-1]
	}
	return make([]byte, n)
}

// release gives back what buffer or pop returned.
func (l *delayLine) release(data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recycle(data)
}

// late notes by how much a frame was late.
func (l *delayLine) late(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.MaxLate = max(l.stats.MaxLate, d)
	if d > relayLate {
		l.stats.Late++
	}
}

// drop counts a frame that was popped but not delivered.
func (l *delayLine) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Dropped++
}

func (l *delayLine) snapshot() RelayStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// close ends pop. It is idempotent.
func (l *delayLine) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.more.Broadcast()
}

// recycle keeps a buffer for the next frame. The lock must be held.
func (l *delayLine) recycle(data []byte) {
	n := cap(data)
	l.free[n] = append(l.free[n], data[:n])
}
