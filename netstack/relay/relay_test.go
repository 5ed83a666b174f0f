// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
)

// patience bounds a wait that would otherwise never end.
const patience = 60 * time.Second

// A rig is a relay on a loop of its own, between two programs.
type rig struct {
	loop    *loop.Loop
	relay   Relay
	fds     [2]int       // the relay's sockets
	program *net.TCPConn // what is connected to the container's end
	peer    *net.TCPConn // what is connected to the host's end
	ended   chan error   // nil where both ways have come to their end
}

// newRig starts a relay.
func newRig(t testing.TB, pool *Pool) *rig {
	t.Helper()
	r := &rig{ended: make(chan error, 1)}
	r.program, r.fds[Container] = pair(t)
	r.peer, r.fds[Host] = pair(t)
	r.relay.Start(pool, r.fds[Container], r.fds[Host])
	return r
}

// run runs relays on one loop until the test ends.
func run(t testing.TB, relays ...*rig) {
	t.Helper()
	l, err := loop.New()
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	for _, r := range relays {
		r.loop = l
		for which, fd := range r.fds {
			_, err := l.Add(fd, loop.Readable|loop.Writable|loop.ReadHangUp|loop.Edge, loop.HandlerFunc(func(ev loop.Events) {
				r.relay.Note(which, ev)
				r.move()
			}))
			must(t, err)
		}
	}
	go func() { ran <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		must(t, <-ran)
		for _, r := range relays {
			r.relay.Stop()
		}
		must(t, l.Close())
	})
}

// move does what the owner of a relay does.
func (r *rig) move() {
	if r.fds[0] < 0 {
		return
	}
	more, err := r.relay.Move()
	switch {
	case err != nil || r.relay.Done():
		r.relay.Stop()
		for i, fd := range r.fds {
			if err != nil {
				_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			}
			unix.Close(fd)
			r.fds[i] = -1
		}
		r.ended <- err
	case more:
		r.loop.Defer(r.move)
	}
}

// pair returns the two ends of a connection, of which the second is non-blocking
// and takes urgent data in line.
func pair(t testing.TB) (*net.TCPConn, int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	s, err := l.Accept()
	must(t, err)
	defer s.Close()
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	f, err := s.(*net.TCPConn).File()
	must(t, err)
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	must(t, unix.SetNonblock(fd, true))
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1))
	return c.(*net.TCPConn), fd
}

// ends runs a test with the program as a and the peer as b, and the other way round.
func ends(t *testing.T, test func(t *testing.T, r *rig, a, b *net.TCPConn)) {
	t.Run("up", func(t *testing.T) {
		r := newRig(t, new(Pool))
		run(t, r)
		test(t, r, r.program, r.peer)
	})
	t.Run("down", func(t *testing.T) {
		r := newRig(t, new(Pool))
		run(t, r)
		test(t, r, r.peer, r.program)
	})
}

// TestBytes sends messages of many sizes, and compares.
func TestBytes(t *testing.T) {
	for _, size := range []int{0, 1, scratchSize - 1, scratchSize, scratchSize + 1, pipeSize, 3*pipeSize + 1, 32 << 20} {
		ends(t, func(t *testing.T, r *rig, a, b *net.TCPConn) {
			sent := make(chan error, 1)
			var sum [32]byte
			go func() {
				data := make([]byte, size)
				rand.NewChaCha8([32]byte{byte(size)}).Read(data)
				sum = sha256.Sum256(data)
				_, err := a.Write(data)
				sent <- errors.Join(err, a.CloseWrite())
			}()
			got, err := io.ReadAll(b)
			must(t, errors.Join(err, <-sent))
			if len(got) != size || sha256.Sum256(got) != sum {
				t.Errorf("%d bytes arrived, other than the %d that were sent", len(got), size)
			}
			// The other way goes on.
			_, err = b.Write([]byte("answer"))
			must(t, errors.Join(err, b.CloseWrite()))
			if got, err := io.ReadAll(a); err != nil || string(got) != "answer" {
				t.Errorf("the answer is %q, %v", got, err)
			}
			must(t, <-r.ended)
			moved := []uint64{r.relay.Moved(Container), r.relay.Moved(Host)}
			if moved[0]+moved[1] != uint64(size+len("answer")) {
				t.Errorf("moved is %v, want %d and %d", moved, size, len("answer"))
			}
		})
	}
}

// TestReset breaks one end off: the owner is told, for the other end.
func TestReset(t *testing.T) {
	ends(t, func(t *testing.T, r *rig, a, b *net.TCPConn) {
		must(t, errors.Join(a.SetLinger(0), a.Close()))
		if err := <-r.ended; !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the relay ended by %v, want %v", err, unix.ECONNRESET)
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the other end reads %v, want %v", err, unix.ECONNRESET)
		}
	})
}

// TestPipesRunOut has more relays that are stuck than there are pipes. Another one
// goes on, and they do when they are read again.
func TestPipesRunOut(t *testing.T) {
	const size = 16 << 20
	before := fds(t)
	t.Run("relays", func(t *testing.T) {
		pool := new(Pool)
		t.Cleanup(func() {
			if pool.made != len(pool.free) || pool.made > maxPipes {
				t.Errorf("%d pipes were made, %d are free, at most %d allowed", pool.made, len(pool.free), maxPipes)
			}
			pool.Close()
			if pool.made != 0 {
				t.Errorf("%d pipes are left after Close", pool.made)
			}
		})
		var stuck []*rig
		for range maxPipes + 8 {
			stuck = append(stuck, newRig(t, pool))
		}
		free := newRig(t, pool)
		run(t, append(stuck, free)...)
		data := bytes.Repeat([]byte("slipway "), size/8)
		sent := make(chan error, len(stuck))
		for _, r := range stuck {
			go func() {
				_, err := r.program.Write(data)
				sent <- errors.Join(err, r.program.CloseWrite())
			}()
		}
		for _, r := range stuck {
			eventually(t, "the relay is stuck", func() bool {
				got := make(chan bool)
				r.loop.Post(func() { w := &r.relay.ways[Container]; got <- w.pipe != nil || len(w.stash) > 0 })
				return <-got
			})
		}
		go func() {
			_, err := free.program.Write(data)
			sent <- errors.Join(err, free.program.CloseWrite())
		}()
		for _, r := range append([]*rig{free}, stuck...) {
			got, err := io.ReadAll(r.peer)
			must(t, errors.Join(err, <-sent))
			if !bytes.Equal(got, data) {
				t.Fatalf("%d bytes arrived, other than the %d that were sent", len(got), len(data))
			}
			must(t, r.peer.CloseWrite())
			must(t, <-r.ended)
		}
	})
	eventually(t, "no descriptor is left", func() bool { return fds(t) <= before })
}

// TestStopGivesBack stops a relay that holds bytes.
func TestStopGivesBack(t *testing.T) {
	before := fds(t)
	t.Run("relay", func(t *testing.T) {
		var pool Pool
		r := newRig(t, &pool)
		defer func() { unix.Close(r.fds[0]); unix.Close(r.fds[1]) }()
		sent := make(chan error, 1)
		go func() {
			_, err := r.program.Write(make([]byte, 64<<20))
			sent <- err
		}()
		eventually(t, "the relay holds bytes", func() bool {
			r.relay.Note(Container, loop.Readable)
			if _, err := r.relay.Move(); err != nil {
				t.Fatal(err)
			}
			w := &r.relay.ways[Container]
			return w.pipe != nil || len(w.stash) > 0
		})
		r.relay.Stop()
		r.relay.Stop()
		if w := &r.relay.ways[Container]; w.pipe != nil || w.stash != nil {
			t.Error("the relay still holds bytes")
		}
		if n := pool.made - len(pool.free); n != 0 {
			t.Errorf("%d pipes are still lent", n)
		}
		pool.Close()
		r.program.Close()
		if err := <-sent; err == nil {
			t.Error("all was sent to a peer that does not read")
		}
	})
	eventually(t, "no descriptor is left", func() bool { return fds(t) <= before })
}

// fds counts open descriptors that a relay could have left.
func fds(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	n := 0
	for _, e := range all {
		to, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never happened: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
