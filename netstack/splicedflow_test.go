// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// filled returns a socket that its peer reads nothing from, with data under way to
// the peer.
func filled(t *testing.T) (fd int, peer *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer l.Close()
	c, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	must(t, err)
	defer c.Close()
	peer, err = l.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { peer.Close() })
	f, err := c.File()
	must(t, err)
	defer f.Close()
	fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	must(t, unix.SetNonblock(fd, true))
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 1<<16))
	}
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
	return fd, peer
}

// TestSplicedDrain has a container that does not read the rest of a flow both of
// whose directions have ended: it gets time for as long as it reads any of it.
func TestSplicedDrain(t *testing.T) {
	r := newRig(t, options{})
	fd, peer := filled(t)
	key := tuple{container: netip.MustParseAddrPort("10.0.2.100:1000"), remote: netip.MustParseAddrPort("192.0.2.1:80")}
	tab := &r.net.tcp
	lives := func() (yes bool) {
		r.on(func() {
			r.net.start = r.net.start.Add(-orphanTimeout / 2) // as if that time had passed
			r.net.expire()
			yes = tab.flows[key] != nil
		})
		return yes
	}
	r.on(func() {
		f := &tcpFlow{flow: r.net.newFlow(key.container, key.remote, key.remote), table: tab, key: key, fd: -1, state: open, watched: true}
		f.spliced = &splicedEnd{flow: f, fd: fd}
		tab.flows[key] = f
		tab.kernel.live[key] = f
		f.finishSpliced()
	})
	for range 2 {
		if !lives() {
			t.Fatal("the flow ended at once")
		}
	}
	before, errno := outQueue(fd)
	if errno != 0 {
		t.Fatal(errno)
	}
	if _, err := io.CopyN(io.Discard, peer, int64(before)/2); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for left := before; left == before; {
		if left, errno = outQueue(fd); errno != 0 || time.Now().After(deadline) {
			t.Fatalf("%d bytes are still under way: %v", left, errno)
		}
	}
	if !lives() {
		t.Error("the flow ended although the container reads")
	}
	lives()
	if lives() {
		t.Error("the flow goes on although the container has stopped reading")
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the socket: %v, want %v", err, unix.EBADF)
	}
}
