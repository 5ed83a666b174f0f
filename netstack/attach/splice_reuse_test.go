// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// begin makes a socket of the container that is bound to the address, and starts to
// connect it, as soon as the container's kernel has the tuple free.
func (r *rig) begin(t testing.TB, from, to netip.AddrPort) *os.File {
	t.Helper()
	domain := unix.AF_INET
	if to.Addr().Is6() {
		domain = unix.AF_INET6
	}
	f := r.c.Socket(t, domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	t.Cleanup(func() { f.Close() })
	fd := int(f.Fd())
	err := errors.Join(
		unix.SetNonblock(fd, true),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, sockaddr(from)))
	if err != nil {
		t.Fatal(err)
	}
	attachtest.Eventually(t, "the tuple is free", func() bool {
		err := unix.Connect(fd, sockaddr(to))
		if err != unix.EINPROGRESS && err != unix.EADDRNOTAVAIL {
			t.Fatalf("connect from %s to %s: %v, want %v", from, to, err, unix.EINPROGRESS)
		}
		return err == unix.EINPROGRESS
	})
	return f
}

// finish waits for the end of a connect and returns the connection.
func finish(t testing.TB, f *os.File) *net.TCPConn {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(poll, int(attachtest.Patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n != 1 {
			t.Fatalf("nothing came of the connect: %d, %v", n, err)
		}
		break
	}
	if errno, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
		t.Fatalf("connect: %v, %v", unix.Errno(errno), err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(deadlineNow()); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// connectFrom connects from the container's address to the listener.
func (r *rig) connectFrom(t testing.TB, from netip.AddrPort, l *net.TCPListener) tcpPair {
	t.Helper()
	c := finish(t, r.begin(t, from, tcpAddr(l.Addr())))
	return tcpPair{c, accepted(t, l)}
}

// accepted returns the listener's next connection.
func accepted(t testing.TB, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	if err := l.SetDeadline(deadlineNow()); err != nil {
		t.Fatal(err)
	}
	p, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := p.SetDeadline(deadlineNow()); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSplicePortReuse connects again and again from one port to one destination,
// as soon as the kernel of the container lets it.
func TestSplicePortReuse(t *testing.T) {
	const times = 50
	ways := []struct {
		name string
		end  func(testing.TB, tcpPair)
	}{
		{"reset by the container", func(t testing.TB, p tcpPair) { check(t, p.container.SetLinger(0), p.container.Close()) }},
		{"reset by the peer", func(t testing.TB, p tcpPair) {
			check(t, p.peer.SetLinger(0), p.peer.Close())
			if _, err := p.container.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("read: %v, want %v", err, unix.ECONNRESET)
			}
			check(t, p.container.Close())
		}},
		{"peer closes first", func(t testing.TB, p tcpPair) {
			check(t, p.peer.Close())
			if _, err := p.container.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read: %v, want %v", err, io.EOF)
			}
			check(t, p.container.Close())
		}},
		// No packet tells of the end: the socket just vanishes, as with its machine.
		{"container vanishes", func(t testing.TB, p tcpPair) { vanish(t, p.container) }},
	}
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
			for i, way := range ways {
				t.Run(way.name, func(t *testing.T) {
					from := netip.AddrPortFrom(r.family(f).Container, uint16(20000+i))
					for range times {
						p := r.connectFrom(t, from, l)
						pingpong(t, p)
						if got := r.flowOf(t, p).Path; got != path {
							t.Errorf("the flow is %s, want %s", got, path)
						}
						way.end(t, p)
						if t.Failed() {
							return
						}
					}
				})
			}
		})
	})
}

// vanish closes a socket without a packet (TCP_REPAIR of tcp(7)), for which the
// owner of its user namespace has the right.
func vanish(t testing.TB, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	control := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
	})
	check(t, err, control, c.Close())
}

// pingpong sends a byte each way.
func pingpong(t testing.TB, p tcpPair) {
	t.Helper()
	for _, way := range [][2]*net.TCPConn{{p.container, p.peer}, {p.peer, p.container}} {
		b := []byte{1}
		if _, err := way[0].Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way[1], b); err != nil {
			t.Fatal(err)
		}
	}
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestSpliceVanishedIsReset tells the peer of a client that has vanished, when its
// successor shows up.
func TestSpliceVanishedIsReset(t *testing.T) {
	r := spliced(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		from := netip.AddrPortFrom(r.family(f).Container, 20100)
		old := r.connectFrom(t, from, l)
		vanish(t, old.container)
		pingpong(t, r.connectFrom(t, from, l))
		if _, err := old.peer.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the peer of the one before reads %v, want %v", err, unix.ECONNRESET)
		}
	})
}

// TestSpliceDestroyed destroys a connection in the container (ss -K).
func TestSpliceDestroyed(t *testing.T) {
	attachtest.NeedTools(t, "ss")
	r := spliced(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		p := r.connect(t, f)
		from := tcpAddr(p.container.LocalAddr())
		r.c.Exec(t, "ss", "-K", "state", "established", "sport", "=", fmt.Sprint(":", from.Port()))
		if _, err := p.peer.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the peer reads %v, want %v", err, unix.ECONNRESET)
		}
		r.noFlows(t)
	})
}

// TestSpliceRetransmittedSYN connects to a peer that answers late, and after the
// container has asked a second time.
func TestSpliceRetransmittedSYN(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	r := spliced(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		answer := r.mute(t, tcpAddr(l.Addr()))
		s := r.begin(t, netip.AddrPortFrom(r.family(f).Container, 20200), tcpAddr(l.Addr()))
		attachtest.Eventually(t, "the SYN is sent again", func() bool {
			ti, err := unix.GetsockoptTCPInfo(int(s.Fd()), unix.IPPROTO_TCP, unix.TCP_INFO)
			return err == nil && ti.Total_retrans > 0
		})
		answer()
		p := tcpPair{finish(t, s), accepted(t, l)}
		if got := r.flowOf(t, p).Path; got != netstack.PathSpliced {
			t.Errorf("the flow is %s, want %s", got, netstack.PathSpliced)
		}
		exchange(t, p.container, p.peer)
		exchange(t, p.peer, p.container)
	})
	r.noFlows(t)
}

// TestSpliceAbortWhileConnecting gives up connects before the peer has answered.
// The peer's connections must end, and the path must stay.
func TestSpliceAbortWhileConnecting(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	const connects = 10
	r := spliced(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		answer := r.mute(t, tcpAddr(l.Addr()))
		var sockets []*os.File
		for i := range connects {
			sockets = append(sockets, r.begin(t, netip.AddrPortFrom(r.family(f).Container, uint16(20300+i)), tcpAddr(l.Addr())))
		}
		attachtest.Eventually(t, "all connects are under way", func() bool { return len(r.flows(t)) == connects })
		for _, s := range sockets {
			s.Close()
		}
		answer()
		for range connects {
			p := accepted(t, l)
			if n, err := p.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the peer reads %d, %v, want the end", n, err)
			}
		}
		r.noFlows(t)
		r.speaksBy(t, f, netstack.PathSpliced)
	})
	if r.logged(saysStacked) > 0 {
		t.Error("the path was given up")
	}
}

// TestSpliceFastOpen sends data with the SYN (RFC 7413), without a cookie. It must
// arrive once.
func TestSpliceFastOpen(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		const client, noCookie = 1, 4 // of net.ipv4.tcp_fastopen
		r.c.Exec(t, "sh", "-c", fmt.Sprintf("echo %d > /proc/sys/net/ipv4/tcp_fastopen", client|noCookie))
		families(t, func(t *testing.T, f attachtest.Family) {
			l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
			domain := map[bool]int{false: unix.AF_INET, true: unix.AF_INET6}[f.Is6()]
			s := r.c.Socket(t, domain, unix.SOCK_STREAM, 0)
			check(t, unix.SetNonblock(int(s.Fd()), true))
			err := unix.Sendto(int(s.Fd()), []byte("hello"), unix.MSG_FASTOPEN, sockaddr(tcpAddr(l.Addr())))
			if err != nil && err != unix.EINPROGRESS {
				t.Fatal(err)
			}
			c := finish(t, s)
			p := accepted(t, l)
			check(t, c.CloseWrite())
			if got, err := io.ReadAll(p); err != nil || string(got) != "hello" {
				t.Errorf("the peer got %q, %v", got, err)
			}
		})
	})
}
