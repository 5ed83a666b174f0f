// SPDX-License-Identifier: Apache-2.0

package seqpacket_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/slipway-net/slipway/tap/seqpacket"
	"golang.org/x/sys/unix"
)

// pair returns both ends of a connection.
func pair(t *testing.T) (here *net.UnixConn, there int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "here")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.UnixConn), fds[1]
}

// TestLastMessage receives what is sent right before the end, as often as it takes for the
// end to be seen first some times, where nobody looks again.
func TestLastMessage(t *testing.T) {
	t.Parallel()
	for i := range 5000 {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := unix.Write(fds[1], []byte("bye"))
			done <- errors.Join(err, unix.Close(fds[1]))
		}()
		body := make([]byte, 8)
		n, err := 0, error(unix.EAGAIN)
		for err == unix.EAGAIN {
			n, _, _, err = seqpacket.Recvmsg(fds[0], body, nil)
		}
		if err != nil || string(body[:n]) != "bye" {
			t.Fatalf("%d: %q, %v", i, body[:n], err)
		}
		if n, oobn, _, err := seqpacket.Recvmsg(fds[0], body, nil); n != 0 || oobn != 0 || (err != nil && err != unix.EAGAIN) {
			t.Fatalf("%d: the end: %d, %d, %v", i, n, oobn, err)
		}
		if err := errors.Join(<-done, unix.Close(fds[0])); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReceive has messages, descriptors, deadlines, and the end.
func TestReceive(t *testing.T) {
	t.Parallel()
	c, there := pair(t)
	defer c.Close()
	body, oob := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	if err := c.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := seqpacket.Receive(c, body, oob); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(there, []byte("longer"), unix.UnixRights(there), nil, 0); err != nil {
		t.Fatal(err)
	}
	n, oobn, flags, err := seqpacket.Receive(c, body, oob)
	if err != nil || string(body[:n]) != "long" || flags&unix.MSG_TRUNC == 0 || oobn == 0 {
		t.Errorf("%q, %d, %#x, %v", body[:n], oobn, flags, err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	if how, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0); err != nil || how&unix.FD_CLOEXEC == 0 {
		t.Errorf("the descriptor is not closed on exec: %#x, %v", how, err)
	}
	unix.Close(fds[0])
	unix.Close(there)
	if n, _, _, err := seqpacket.Receive(c, body, oob); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the end: %d, %v", n, err)
	}
}
