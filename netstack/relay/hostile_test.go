// SPDX-License-Identifier: Apache-2.0

package relay_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/relay"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what should be there at once.
const patience = 10 * time.Second

// A joint is a Relay that is driven by epoll, and the two peers of its sockets.
type joint struct {
	t     *testing.T
	relay relay.Relay
	pool  relay.Pool
	epfd  int
	fds   [2]int
	files [2]*os.File // keep the fds
	peers [2]*net.TCPConn
}

func newJoint(t *testing.T) *joint {
	t.Helper()
	j := &joint{t: t}
	var err error
	if j.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.relay.Stop(); j.pool.Close(); unix.Close(j.epfd) })
	for i := range j.fds {
		j.files[i], j.peers[i] = tcpPair(t)
		j.fds[i] = int(j.files[i].Fd())
		if err := unix.SetNonblock(j.fds[i], true); err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptInt(j.fds[i], unix.SOL_SOCKET, unix.SO_OOBINLINE, 1); err != nil {
			t.Fatal(err)
		}
		ev := unix.EpollEvent{Fd: int32(i), Events: uint32(loop.Readable | loop.Urgent | loop.Writable | loop.ReadHangUp | loop.Edge)}
		if err := unix.EpollCtl(j.epfd, unix.EPOLL_CTL_ADD, j.fds[i], &ev); err != nil {
			t.Fatal(err)
		}
	}
	j.relay.Start(&j.pool, j.fds[0], j.fds[1])
	return j
}

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T) (*os.File, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	f, err := a.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); b.Close() })
	if err := b.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return f, b.(*net.TCPConn)
}

// run moves what there is until the relay is done, broken, or has stop's say.
func (j *joint) run(stop func() bool) error {
	j.t.Helper()
	var evs [4]unix.EpollEvent
	more := false
	for !stop() && !j.relay.Done() {
		wait := int(patience / time.Millisecond)
		if more {
			wait = 0
		}
		n, err := unix.EpollWait(j.epfd, evs[:], wait)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			j.t.Fatal(err)
		}
		if n == 0 && !more {
			return errors.New("nothing happens any more")
		}
		for _, ev := range evs[:n] {
			j.relay.Note(int(ev.Fd), loop.Events(ev.Events))
		}
		if more, err = j.relay.Move(); err != nil {
			return err
		}
	}
	return nil
}

func never() bool { return false }

func (j *joint) urgent(from int, b []byte) {
	j.t.Helper()
	raw, err := j.peers[from].SyscallConn()
	if err != nil {
		j.t.Fatal(err)
	}
	if cerr := raw.Write(func(fd uintptr) bool { err = unix.Sendto(int(fd), b, unix.MSG_OOB, nil); return true }); cerr != nil || err != nil {
		j.t.Fatal(cerr, err)
	}
}

// TestUrgentData is passed on in line, whichever way the bytes before it went, and
// at once: reads stop short of it, and splice(2) takes it for the end.
func TestUrgentData(t *testing.T) {
	tests := []struct {
		name   string
		before int // bytes
	}{
		{"at once", 0},
		{"after a short message", 100},
		{"after many bytes", 300 << 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := newJoint(t)
			want := bytes.Repeat([]byte{'x'}, tt.before)
			if _, err := j.peers[0].Write(want); err != nil {
				t.Fatal(err)
			}
			j.urgent(0, []byte("ab!"))
			want = append(want, "ab!"...)
			if err := j.run(func() bool { return j.relay.Moved(relay.Container) >= uint64(len(want)) }); err != nil {
				t.Fatalf("after %d of %d bytes: %v", j.relay.Moved(relay.Container), len(want), err)
			}
			// The same with the end behind it.
			j.urgent(0, []byte("cd!"))
			if _, err := j.peers[0].Write(want); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(j.peers[0].CloseWrite(), j.peers[1].CloseWrite()); err != nil {
				t.Fatal(err)
			}
			if err := j.run(never); err != nil {
				t.Fatal(err)
			}
			want = append(append(bytes.Clone(want), "cd!"...), want...)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(j.peers[1], got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes came, as sent: %v, error %v", len(want), bytes.Equal(got, want), err)
			}
		})
	}
}

// TestAnswerBeforeReset is delivered: a server that refuses a request before it has
// read all of it answers, and breaks off.
func TestAnswerBeforeReset(t *testing.T) {
	j := newJoint(t)
	if _, err := j.peers[0].Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	if err := j.run(func() bool { return j.relay.Moved(relay.Container) == 7 }); err != nil {
		t.Fatal(err)
	}
	answer := []byte("too large")
	if _, err := j.peers[1].Write(answer); err != nil {
		t.Fatal(err)
	}
	if err := j.peers[1].Close(); err != nil { // with the request unread: a RST
		t.Fatal(err)
	}
	if _, err := j.peers[0].Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	// All three have arrived: loopback delivers in the sender's system call.
	if err := j.run(never); err == nil {
		t.Error("the relay has not noticed the RST")
	}
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(j.peers[0], got); err != nil || !bytes.Equal(got, answer) {
		t.Errorf("got %q, %v; want %q", got, err, answer)
	}
}
