// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// fed returns a frame of n bytes that begins with mark.
func fed(l *delayLine, n int, mark byte) []byte {
	size := relaySmall
	if n > relaySmall {
		size = relayFrame
	}
	b := l.buffer(size)[:n]
	b[0] = mark
	return b
}

func TestDelayLineKeepsOrderAndTime(t *testing.T) {
	const delay, frames = 50 * time.Millisecond, 1000
	l := newDelayLine(delay, 1<<30)
	start := time.Now()
	for i := range frames {
		l.push(start.Add(time.Duration(i)*time.Millisecond), fed(l, 100+i*10, byte(i)))
	}
	for i := range frames {
		data, due, ok := l.pop()
		if !ok || data[0] != byte(i) || len(data) != 100+i*10 {
			t.Fatalf("frame %d: %d bytes, mark %d, %v", i, len(data), data[0], ok)
		}
		if want := start.Add(time.Duration(i)*time.Millisecond + delay); !due.Equal(want) {
			t.Fatalf("frame %d is due at %s, want %s", i, due, want)
		}
		l.release(data)
	}
	if s := l.snapshot(); s.Frames != frames || s.Dropped != 0 {
		t.Errorf("stats %+v, want %d frames", s, frames)
	}
	if l.held != 0 {
		t.Errorf("%d bytes are held by an empty line", l.held)
	}
	// What was released is used again.
	small, large := len(l.free[relaySmall]), len(l.free[relayFrame])
	if small+large != frames {
		t.Errorf("%d buffers came back, want %d", small+large, frames)
	}
	fed(l, 1, 0)
	if got := len(l.free[relaySmall]); got != small-1 {
		t.Errorf("%d small buffers are free, want %d", got, small-1)
	}
}

func TestDelayLineDropsBeyondLimit(t *testing.T) {
	l := newDelayLine(0, 3*relaySmall)
	for i := range 5 {
		l.push(time.Now(), fed(l, 60, byte(i)))
	}
	if s := l.snapshot(); s.Frames != 3 || s.Dropped != 2 || s.MaxHeld != 3*relaySmall {
		t.Errorf("stats %+v, want 3 frames and 2 dropped", s)
	}
	data, _, _ := l.pop()
	l.release(data)
	l.push(time.Now(), fed(l, 60, 9))
	if s := l.snapshot(); s.Frames != 4 {
		t.Errorf("stats %+v, want room for a fourth frame", s)
	}
	l.drop()
	l.late(time.Second)
	l.late(time.Millisecond)
	if s := l.snapshot(); s.Dropped != 3 || s.MaxLate != time.Second || s.Late != 1 || s.LateShare() != 25 {
		t.Errorf("stats %+v, want 3 dropped and one of four 1 s late", s)
	}
}

func TestDelayLineCloseEndsPop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newDelayLine(time.Hour, 1<<20)
		ended := make(chan bool)
		go func() {
			_, _, ok := l.pop()
			ended <- ok
		}()
		synctest.Wait()
		l.close()
		l.close()
		if <-ended {
			t.Error("pop found a frame in an empty line")
		}
	})
}

// TestRelay puts socket pairs that keep the bounds of frames in place of the taps.
func TestRelay(t *testing.T) {
	const delay = 20 * time.Millisecond
	near, host := framePair(t)
	far, peer := framePair(t)
	r := newRelay(near, far, delay)
	r.start()
	for _, way := range []struct{ from, to *os.File }{{host, peer}, {peer, host}} {
		start := time.Now()
		for _, n := range []int{60, 60000, 1500} {
			if _, err := way.from.Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, relayFrame)
		for _, want := range []int{60, 60000, 1500} {
			if n, err := way.to.Read(buf); err != nil || n != want {
				t.Fatalf("read %d bytes, %v, want %d", n, err, want)
			}
			if passed := time.Since(start); passed < delay {
				t.Errorf("a frame came after %s, want at least %s", passed, delay)
			}
		}
	}
	r.close()
	if s := r.stats(); s.Frames != 6 || s.Bytes != 2*(60+60000+1500) || s.Dropped != 0 {
		t.Errorf("stats %+v, want 6 frames", s)
	}
}

func framePair(t *testing.T) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}
