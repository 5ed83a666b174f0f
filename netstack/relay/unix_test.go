// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
)

// newUnixRig starts a relay whose host's end is a Unix socket, and returns what is
// connected to that.
func newUnixRig(t testing.TB) (*rig, *net.UnixConn) {
	t.Helper()
	pair2, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.SetNonblock(pair2[1], true))
	must(t, unix.SetsockoptInt(pair2[1], unix.SOL_SOCKET, unix.SO_OOBINLINE, 1))
	f := os.NewFile(uintptr(pair2[0]), "service")
	defer f.Close()
	c, err := net.FileConn(f)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	r := &rig{ended: make(chan error, 1)}
	r.program, r.fds[Container] = pair(t)
	r.fds[Host] = pair2[1]
	r.relay.Start(new(Pool), r.fds[Container], r.fds[Host])
	r.relay.MarkUnix(Host)
	return r, c.(*net.UnixConn)
}

// half is an end of a connection that can be closed by halves.
type half interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// TestUnixBytes is TestBytes with a Unix socket for one end.
func TestUnixBytes(t *testing.T) {
	for _, size := range []int{0, 1, scratchSize, scratchSize + 1, 3*pipeSize + 1, 32 << 20} {
		for _, up := range []bool{true, false} {
			r, service := newUnixRig(t)
			run(t, r)
			var a, b half = r.program, service
			if !up {
				a, b = b, a
			}
			data := make([]byte, size)
			rand.NewChaCha8([32]byte{byte(size)}).Read(data)
			sent := make(chan error, 1)
			go func() {
				_, err := a.Write(data)
				sent <- errors.Join(err, a.CloseWrite())
			}()
			got, err := io.ReadAll(b)
			must(t, errors.Join(err, <-sent))
			if sha256.Sum256(got) != sha256.Sum256(data) {
				t.Errorf("up %t: %d bytes arrived, other than the %d that were sent", up, len(got), size)
			}
			_, err = b.Write([]byte("answer"))
			must(t, errors.Join(err, b.CloseWrite()))
			if got, err := io.ReadAll(a); err != nil || string(got) != "answer" {
				t.Errorf("up %t: the answer is %q, %v", up, got, err)
			}
			must(t, <-r.ended)
		}
	}
}

// TestUnixShortReads has messages that end reads amid others, all of which are there
// by the time of the one event.
func TestUnixShortReads(t *testing.T) {
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	for _, tt := range []struct {
		name string
		send func(t *testing.T, fd int)
	}{
		{"descriptors", func(t *testing.T, fd int) {
			must(t, unix.Sendmsg(fd, []byte("!"), unix.UnixRights(int(null.Fd())), nil, 0))
		}},
		{"urgent", func(t *testing.T, fd int) {
			err := unix.Sendto(fd, []byte("!"), unix.MSG_OOB, nil)
			if errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("this kernel has no urgent data on Unix sockets (CONFIG_AF_UNIX_OOB)")
			}
			must(t, err)
		}},
	} {
		for name, first := range map[string]int{"short": 0, "bulk": scratchSize} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				r, service := newUnixRig(t)
				defer func() { unix.Close(r.fds[0]); unix.Close(r.fds[1]) }()
				raw, err := service.SyscallConn()
				must(t, err)
				want := bytes.Repeat([]byte("x"), first)
				must(t, raw.Control(func(fd uintptr) {
					for _, text := range []string{string(want), "ab"} {
						_, err := unix.Write(int(fd), []byte(text))
						must(t, err)
					}
					tt.send(t, int(fd))
					_, err := unix.Write(int(fd), []byte("cd"))
					must(t, err)
				}))
				want = append(want, "ab!cd"...)
				r.all(t, Host, loop.Readable)
				if got := r.relay.Moved(Host); got != uint64(len(want)) {
					t.Fatalf("%d bytes were moved of %d that were there", got, len(want))
				}
				got := make([]byte, len(want))
				if _, err := readFull(r.program, got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("the program reads %q, %v", got, err)
				}
			})
		}
	}
}

// TestUnixClosed has a service that sends, closes, and is sent to: the program gets
// all there was, and then hears that what it sent was lost.
func TestUnixClosed(t *testing.T) {
	const size = 100 << 10
	r, service := newUnixRig(t)
	_, err := r.program.Write([]byte("more"))
	must(t, err)
	raw, err := service.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		must(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 2*size))
	}))
	data := bytes.Repeat([]byte("x"), size)
	_, err = service.Write(data)
	must(t, errors.Join(err, service.Close()))
	run(t, r)
	got := make([]byte, size)
	if n, err := readFull(r.program, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the program reads %d bytes of %d, %v", n, size, err)
	}
	if err := <-r.ended; !errors.Is(err, unix.EPIPE) {
		t.Errorf("the relay ended by %v, want %v", err, unix.EPIPE)
	}
}

// TestUnixReset has a service that closes without having read what it was sent.
func TestUnixReset(t *testing.T) {
	r, service := newUnixRig(t)
	run(t, r)
	_, err := r.program.Write([]byte("question"))
	must(t, err)
	raw, err := service.SyscallConn()
	must(t, err)
	eventually(t, "the question is there", func() bool {
		waiting := 0
		must(t, raw.Control(func(fd uintptr) {
			var err error
			waiting, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
			must(t, err)
		}))
		return waiting > 0
	})
	must(t, service.Close())
	if err := <-r.ended; !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the relay ended by %v, want %v", err, unix.ECONNRESET)
	}
	if _, err := r.program.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the program reads %v, want %v", err, unix.ECONNRESET)
	}
}
