// SPDX-License-Identifier: Apache-2.0

package loop_test

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
)

// start runs a loop for the length of the test and fails the test if Run does.
func start(t testing.TB) *loop.Loop {
	t.Helper()
	l, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l
}

// on runs f on the loop and waits for it.
func on(l *loop.Loop, f func()) {
	done := make(chan struct{})
	l.Post(func() { f(); close(done) })
	<-done
}

func pipe(t testing.TB) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	return p[0], p[1]
}

func TestPostFromManyGoroutines(t *testing.T) {
	l := start(t)
	const posters, each = 16, 1000
	var wg sync.WaitGroup
	var n int // owned by the loop: the race detector would tell
	for range posters {
		wg.Go(func() {
			for range each {
				l.Post(func() { n++ })
			}
		})
	}
	wg.Wait()
	on(l, func() {
		if n != posters*each {
			t.Errorf("ran %d tasks, want %d", n, posters*each)
		}
	})
}

func TestEventsWakeAParkedLoop(t *testing.T) {
	l := start(t)
	r, w := pipe(t)
	defer unix.Close(r)
	defer unix.Close(w)
	got := make(chan byte)
	on(l, func() {
		_, err := l.Add(r, loop.Readable|loop.Edge, loop.HandlerFunc(func(loop.Events) {
			var b [1]byte
			if _, err := unix.Read(r, b[:]); err == nil {
				go func() { got <- b[0] }()
			}
		}))
		if err != nil {
			t.Error(err)
		}
	})
	for i := range byte(50) {
		if _, err := unix.Write(w, []byte{i}); err != nil {
			t.Fatal(err)
		}
		if b := <-got; b != i {
			t.Fatalf("read %d, want %d", b, i)
		}
	}
}

func TestReusedDescriptorGetsNoStaleEvent(t *testing.T) {
	l := start(t)
	on(l, func() {
		r1, w1 := pipe(t)
		r2, w2 := pipe(t)
		defer unix.Close(w1)
		defer unix.Close(w2)
		var t2 loop.Token
		// Whichever handler runs first removes the other's registration, whose
		// event has been fetched in the same batch.
		fired := 0
		var t1 loop.Token
		t1, err := l.Add(r1, loop.Readable, loop.HandlerFunc(func(loop.Events) {
			fired++
			l.Remove(r1, t1)
			l.Remove(r2, t2)
		}))
		if err != nil {
			t.Fatal(err)
		}
		t2, err = l.Add(r2, loop.Readable, loop.HandlerFunc(func(loop.Events) {
			fired++
			l.Remove(r1, t1)
			l.Remove(r2, t2)
		}))
		if err != nil {
			t.Fatal(err)
		}
		unix.Write(w1, []byte{1})
		unix.Write(w2, []byte{1})
		l.Defer(func() {
			l.Defer(func() {
				if fired != 1 {
					t.Errorf("%d handlers ran, want 1", fired)
				}
				unix.Close(r1)
				unix.Close(r2)
			})
		})
	})
	on(l, func() {})
	on(l, func() {})
	on(l, func() {})
}

// A registration that is put aside and taken up again: what has been fetched for its
// former handler reaches nobody, what happens while it is aside neither, and what comes
// about then its new handler is told.
func TestParkAgain(t *testing.T) {
	l := start(t)
	r1, w1 := pipe(t)
	r2, w2 := pipe(t)
	for _, fd := range []int{r1, w1, r2, w2} {
		defer unix.Close(fd)
	}
	readers, writers := [2]int{r1, r2}, [2]int{w1, w2}
	var tokens [2]loop.Token
	var order []string
	renewed := 0
	done := make(chan struct{})
	on(l, func() {
		for i, fd := range readers {
			var err error
			tokens[i], err = l.Add(fd, loop.Readable|loop.Edge, loop.HandlerFunc(func(loop.Events) {
				order = append(order, "old")
				// The other's event is in the same batch.
				renewed = 1 - i
				l.Park(readers[renewed], tokens[renewed])
				if again := l.Again(readers[renewed], loop.HandlerFunc(func(loop.Events) {
					order = append(order, "new")
					close(done)
				})); again != tokens[renewed] {
					t.Errorf("the token is %#x, want %#x again", again, tokens[renewed])
				}
			}))
			if err != nil {
				t.Error(err)
			}
		}
		unix.Write(w1, []byte{1})
		unix.Write(w2, []byte{1})
	})
	on(l, func() {}) // has a turn of its own
	on(l, func() {
		if len(order) != 1 {
			t.Errorf("told were %v, want one old handler alone", order)
		}
		unix.Write(writers[renewed], []byte{1})
	})
	<-done
	on(l, func() {
		if len(order) != 2 || order[1] != "new" {
			t.Errorf("told were %v, want the old handler of one and the new one of the other", order)
		}
		for i, token := range tokens {
			l.Park(readers[i], token)
		}
	})
	for _, w := range writers {
		unix.Write(w, []byte{1}) // nobody is to be told
	}
	on(l, func() {})
	on(l, func() {
		if len(order) != 2 {
			t.Errorf("told were %v", order)
		}
	})
}

// A parked descriptor that was closed leaves its number to another's registration.
func TestParkClosed(t *testing.T) {
	l := start(t)
	on(l, func() {
		r, w := pipe(t)
		defer unix.Close(w)
		nobody := loop.HandlerFunc(func(loop.Events) {})
		old, err := l.Add(r, loop.Readable|loop.Edge, nobody)
		if err != nil {
			t.Fatal(err)
		}
		l.Park(r, old)
		unix.Close(r)
		fd, err := unix.FcntlInt(uintptr(w), unix.F_DUPFD_CLOEXEC, r)
		if err != nil || fd != r {
			t.Fatalf("the number is %d, %v, want %d again", fd, err, r)
		}
		defer unix.Close(fd)
		next, err := l.Add(fd, loop.Writable|loop.Edge, nobody)
		if err != nil || next == old {
			t.Errorf("the next registration is %#x, %v", next, err)
		}
		if l.Forget(old) {
			t.Error("the parked registration is still there")
		}
		if again := l.Again(fd, nobody); again != 0 {
			t.Errorf("%#x is taken up again, which is in use", again)
		}
		l.Remove(fd, next)
		l.Park(fd, next)
		if again := l.Again(fd, nobody); again != 0 {
			t.Errorf("%#x is taken up again, which was removed", again)
		}
	})
}

func TestRemoveIgnoresForeignTokens(t *testing.T) {
	l := start(t)
	on(l, func() {
		r, w := pipe(t)
		defer unix.Close(r)
		defer unix.Close(w)
		tok, err := l.Add(r, loop.Readable, loop.HandlerFunc(func(loop.Events) {}))
		if err != nil {
			t.Fatal(err)
		}
		l.Remove(r, 0)
		l.Remove(r, tok+1<<32)
		l.Remove(r, 1<<20)
		if l.Forget(0) || l.Forget(tok+1<<32) || l.Forget(1<<20) {
			t.Error("Forget knows a token that was never given out")
		}
		if _, err := l.Add(r, loop.Readable, nil); err == nil {
			t.Error("the registration is gone")
		}
		l.Remove(r, tok)
		if tok, err = l.Add(r, loop.Readable, loop.HandlerFunc(func(loop.Events) {})); err != nil {
			t.Errorf("Add after Remove: %v", err)
		}
		if !l.Forget(tok) || l.Forget(tok) {
			t.Error("Forget works never, or twice")
		}
	})
}

func TestAddReportsABadDescriptor(t *testing.T) {
	l := start(t)
	on(l, func() {
		if _, err := l.Add(-1, loop.Readable, nil); err == nil {
			t.Error("Add(-1) succeeded")
		}
	})
}

func TestCloseLeaksNothing(t *testing.T) {
	before := openFiles(t)
	for range 20 {
		l, err := loop.New()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := l.Run(ctx); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		l.Post(func() { t.Error("a task ran after Close") })
		l.Wake()
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d open files, were %d", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(es)
}

func BenchmarkPost(b *testing.B) {
	l, err := loop.New()
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	b.ReportAllocs()
	for b.Loop() {
		on(l, func() {})
	}
	cancel()
	<-done
	_ = l.Close()
}
