// SPDX-License-Identifier: Apache-2.0

package loop_test

import (
	"testing"

	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
)

// BenchmarkEvent is the way of a byte through two pipes with the loop between.
func BenchmarkEvent(b *testing.B) {
	l := start(b)
	r, w := pipe(b)
	r2, w2 := pipe(b)
	for _, fd := range []int{r, w, r2, w2} {
		defer unix.Close(fd)
	}
	if err := unix.SetNonblock(r2, false); err != nil {
		b.Fatal(err)
	}
	var buf [1]byte
	on(l, func() {
		_, err := l.Add(r, loop.Readable|loop.Edge, loop.HandlerFunc(func(loop.Events) {
			unix.Read(r, buf[:])
			unix.Write(w2, buf[:])
		}))
		if err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		unix.Write(w, []byte{1})
		unix.Read(r2, make([]byte, 1))
	}
}

// BenchmarkAdd registers a descriptor and takes it off again.
func BenchmarkAdd(b *testing.B) {
	l := start(b)
	r, w := pipe(b)
	defer unix.Close(r)
	defer unix.Close(w)
	on(l, func() {
		h := loop.HandlerFunc(func(loop.Events) {})
		b.ReportAllocs()
		for b.Loop() {
			t, err := l.Add(r, loop.Readable|loop.Edge, h)
			if err != nil {
				b.Fatal(err)
			}
			l.Remove(r, t)
		}
	})
}
