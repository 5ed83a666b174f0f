// SPDX-License-Identifier: Apache-2.0

package hostport

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenerGone is not asked again and again for clients: the container can end the
// listening by sock_diag(7).
func TestListenerGone(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	sa := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(fd, sa), unix.Listen(fd, 1), unix.Shutdown(fd, unix.SHUT_RD)); err != nil {
		t.Fatal(err)
	}
	l := Listener{FD: fd, To: netip.MustParseAddrPort("127.0.0.1:1")}
	s, err := New([]Listener{l})
	if err != nil {
		t.Fatal(err)
	}
	s.acceptAll(l)
	if s.paused {
		t.Error("it is to be asked again")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
