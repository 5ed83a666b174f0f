// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"errors"
	"net"
	"testing"

	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
)

// TestUrgent has urgent data amid other, all of which has arrived by the time that
// the one event for it is seen. Reads end before an urgent byte, and so do splices.
func TestUrgent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first int  // bytes before those, to make the relay use pipes
		fin   bool // the sender closes
	}{
		{"short", 0, false},
		{"short and FIN", 0, true},
		{"bulk", scratchSize, false},
		{"bulk and FIN", scratchSize, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, new(Pool))
			defer func() { unix.Close(r.fds[0]); unix.Close(r.fds[1]) }()
			want := bytes.Repeat([]byte("x"), tt.first)
			ev := loop.Readable | loop.Urgent
			sendFlags(t, r.program, string(want), 0)
			sendFlags(t, r.program, "ab", 0)
			sendFlags(t, r.program, "!", unix.MSG_OOB)
			sendFlags(t, r.program, "cd", 0)
			want = append(want, "ab!cd"...)
			if tt.fin {
				must(t, r.program.CloseWrite())
				ev |= loop.ReadHangUp
			}
			eventually(t, "all has arrived", func() bool {
				ti, err := unix.GetsockoptTCPInfo(r.fds[Container], unix.IPPROTO_TCP, unix.TCP_INFO)
				must(t, err)
				const closeWait = 8 // TCP_CLOSE_WAIT, include/net/tcp_states.h
				return ti.Bytes_received >= uint64(len(want)) && (ti.State == closeWait) == tt.fin
			})
			r.all(t, Container, ev)
			if got := r.relay.Moved(Container); got != uint64(len(want)) {
				t.Errorf("%d bytes were moved of %d that were there", got, len(want))
			}
			if got := r.relay.Ended(Container); got != tt.fin {
				t.Errorf("the end was passed on: %t, want %t", got, tt.fin)
			}
			got := make([]byte, r.relay.Moved(Container))
			if _, err := readFull(r.peer, got); err != nil || !bytes.Equal(got, want[:len(got)]) {
				t.Errorf("the peer reads %d bytes, %v, want those that were sent", len(got), err)
			}
		})
	}
}

// all moves what is there, without further events.
func (r *rig) all(t testing.TB, which int, ev loop.Events) {
	t.Helper()
	r.relay.Note(which, ev)
	for more := true; more; {
		var err error
		if more, err = r.relay.Move(); err != nil {
			t.Fatal(err)
		}
	}
}

func readFull(c *net.TCPConn, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Read(b[n:])
		n += m
	}
	return n, err
}

func sendFlags(t testing.TB, c *net.TCPConn, text string, flags int) {
	t.Helper()
	if text == "" {
		return
	}
	raw, err := c.SyscallConn()
	must(t, err)
	control := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte(text), flags, nil) })
	must(t, errors.Join(control, err))
}
