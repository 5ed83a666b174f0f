// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// A bench is a Factory and a service of the container's.
type bench struct {
	*Factory
	c       *attachtest.Place
	service *net.TCPListener
	from    netip.AddrPort
}

func newBench(t testing.TB, f family) *bench {
	t.Helper()
	c, in := opened(t)
	factory, err := NewFactory(in)
	must(t, err)
	must(t, factory.Open())
	factory.first, factory.last = 32768, 60999 // as the kernel has it
	t.Cleanup(factory.Close)
	c.Exec(t, "sh", "-ec", "echo 1 >/proc/sys/net/ipv4/tcp_fwmark_accept") // as Inside has it
	return &bench{factory, c, c.Listen(t, netip.AddrPortFrom(f.loopback, 0)), netip.AddrPortFrom(f.loopback, 0)}
}

// dial connects to the service.
func (b *bench) dial(t testing.TB, from netip.AddrPort) (fd int, known bool, peer *net.TCPConn) {
	t.Helper()
	fd, known, err := b.Dial(from, b.service.Addr().(*net.TCPAddr).AddrPort())
	must(t, err)
	Greeted(fd)
	must(t, b.service.SetDeadline(time.Now().Add(attachtest.Patience)))
	peer, err = b.service.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { peer.Close() })
	return fd, known, peer
}

// isNew fails the test unless the socket has nothing of another connection.
func isNew(t testing.TB, fd int, peer *net.TCPConn) {
	t.Helper()
	if errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
		t.Errorf("the socket has the error %v, %v", unix.Errno(errno), err)
	}
	b := make([]byte, 16)
	if n, err := unix.Read(fd, b); err != unix.EAGAIN {
		t.Errorf("the socket has %q, %v to read", b[:max(n, 0)], err)
	}
	_, err := unix.Write(fd, []byte("mine"))
	must(t, err)
	must(t, peer.SetReadDeadline(time.Now().Add(attachtest.Patience)))
	if n, err := io.ReadAtLeast(peer, b, 4); err != nil || string(b[:n]) != "mine" {
		t.Errorf("the service got %q, %v", b[:n], err)
	}
}

// TestFactoryUsesAgain ends connections in each way in which there is something left of
// them, and uses their sockets again: nothing of one client's may reach another.
func TestFactoryUsesAgain(t *testing.T) {
	for _, f := range families {
		for _, tt := range []struct {
			name string
			end  func(fd int, peer *net.TCPConn) error
		}{
			{"all read", func(fd int, peer *net.TCPConn) error { return peer.Close() }},
			{"unread", func(fd int, peer *net.TCPConn) error {
				_, err := peer.Write([]byte("of another client"))
				return errors.Join(err, peer.Close())
			}},
			{"urgent", func(fd int, peer *net.TCPConn) error {
				raw, err := peer.SyscallConn()
				cerr := raw.Control(func(s uintptr) { err = errors.Join(err, unix.Sendto(int(s), []byte("!"), unix.MSG_OOB, nil)) })
				return errors.Join(err, cerr, peer.Close())
			}},
			{"with an error", func(fd int, peer *net.TCPConn) error {
				_, err := unix.Write(fd, []byte("never read"))
				return errors.Join(err, peer.CloseWrite(), peer.SetLinger(0), peer.Close())
			}},
		} {
			t.Run(f.listen.String()+" "+tt.name, func(t *testing.T) {
				b := newBench(t, f)
				fd, known, peer := b.dial(t, b.from)
				if known {
					t.Error("the first socket is said to be known")
				}
				must(t, tt.end(fd, peer))
				must(t, ignore(unix.Shutdown(fd, unix.SHUT_WR), unix.ENOTCONN))
				if !b.GiveBack(fd, b.from) {
					t.Fatal("the socket is not taken back")
				}
				again, known, peer := b.dial(t, b.from)
				defer unix.Close(again)
				if again != fd || !known {
					t.Errorf("the next socket is %d, known %v, want %d again", again, known, fd)
				}
				isNew(t, again, peer)
			})
		}
	}
}

// TestFactoryCongestion has sockets keep the listener's congestion control, the used ones too.
func TestFactoryCongestion(t *testing.T) {
	for _, f := range families {
		t.Run(f.listen.String(), func(t *testing.T) {
			b := newBench(t, f)
			fd, _, peer := b.dial(t, b.from)
			isCongestion(t, fd)
			must(t, peer.Close())
			must(t, ignore(unix.Shutdown(fd, unix.SHUT_WR), unix.ENOTCONN))
			if !b.GiveBack(fd, b.from) {
				t.Fatal("the socket is not taken back")
			}
			again, _, _ := b.dial(t, b.from)
			defer unix.Close(again)
			isCongestion(t, again)
		})
	}
}

func isCongestion(t testing.TB, fd int) {
	t.Helper()
	if got, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION); err != nil || got != congestion {
		t.Errorf("the congestion control is %q, %v, want %q", got, err, congestion)
	}
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// TestFactoryLeaves does not take back what cannot be used, or not yet.
func TestFactoryLeaves(t *testing.T) {
	for _, f := range families {
		b := newBench(t, f)
		t.Run(f.listen.String()+" open", func(t *testing.T) {
			fd, _, _ := b.dial(t, b.from)
			defer unix.Close(fd)
			if b.GiveBack(fd, b.from) {
				t.Error("it is taken back")
			}
		})
		t.Run(f.listen.String()+" not delivered", func(t *testing.T) {
			fd, _, peer := b.dial(t, b.from)
			defer unix.Close(fd)
			must(t, peer.SetReadBuffer(1))
			for {
				if _, err := unix.Write(fd, make([]byte, 1<<16)); err != nil {
					break
				}
			}
			must(t, peer.CloseWrite())
			must(t, unix.Shutdown(fd, unix.SHUT_WR))
			if b.GiveBack(fd, b.from) {
				t.Error("it is taken back")
			}
		})
	}
}

// TestFactoryPortForGood has a client from the port of the service, to which the socket
// must be bound: it cannot be used again, and that must not be of any consequence.
func TestFactoryPortForGood(t *testing.T) {
	f := families[0]
	b := newBench(t, f)
	from := netip.AddrPortFrom(netip.MustParseAddr("127.9.9.9"), b.service.Addr().(*net.TCPAddr).AddrPort().Port())
	for range 3 {
		fd, _, peer := b.dial(t, from)
		isNew(t, fd, peer)
		must(t, peer.Close())
		must(t, unix.Shutdown(fd, unix.SHUT_WR))
		if !b.GiveBack(fd, from) {
			unix.Close(fd)
		}
		again, _, peer := b.dial(t, b.from)
		isNew(t, again, peer)
		unix.Close(again)
		if b.last == 0 {
			t.Error("no socket is used again any more")
		}
	}
}

// TestFactoryBound has clients of several addresses use one socket, one after the other,
// and each be who it is.
func TestFactoryBound(t *testing.T) {
	f := families[0]
	b := newBench(t, f)
	for _, client := range []string{"127.1.1.1", "127.1.1.1", "127.2.2.2", "127.1.1.1"} {
		from := netip.AddrPortFrom(netip.MustParseAddr(client), 40000)
		fd, _, peer := b.dial(t, from)
		if got := peer.RemoteAddr().(*net.TCPAddr).AddrPort(); got != from {
			t.Errorf("the client is %s for the service, want %s", got, from)
		}
		isNew(t, fd, peer)
		must(t, peer.SetLinger(0)) // leaves no TIME_WAIT in the next one's way
		must(t, peer.Close())
		if !b.GiveBack(fd, from) {
			t.Fatal("the socket is not taken back")
		}
	}
}

// TestFactoryMark has the service's end of a connection take our mark, which spares it
// the way through the rules.
func TestFactoryMark(t *testing.T) {
	for _, f := range families {
		t.Run(f.listen.String(), func(t *testing.T) {
			b := newBench(t, f)
			fd, _, peer := b.dial(t, b.from)
			defer unix.Close(fd)
			raw, err := peer.SyscallConn()
			must(t, err)
			must(t, raw.Control(func(s uintptr) {
				if got, err := unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_MARK); err != nil || uint32(got) != mark {
					t.Errorf("the mark is %#x, %v, want %#x", got, err, mark)
				}
			}))
		})
	}
}

// TestFactoryGreets has what a client has sent go with the acknowledgment that opens the
// service's end, and, where it has sent nothing, that go when we say so. The kernel's own
// timer may be sooner, on a machine that stands still, but not each time.
func TestFactoryGreets(t *testing.T) {
	const (
		tries = 20
		want  = 2 // segments: the SYN and one that acknowledges the answer
	)
	greet := map[string]func(fd int){
		"data": func(fd int) {
			_, err := unix.Write(fd, []byte("first"))
			must(t, err)
		},
		"nothing": Greeted,
	}
	for _, f := range families {
		for name, greet := range greet {
			t.Run(f.listen.String()+" "+name, func(t *testing.T) {
				b := newBench(t, f)
				sent := make([]uint32, 0, tries)
				for !slices.Contains(sent, want) {
					if len(sent) == tries {
						t.Fatalf("%v segments were sent, want %d", sent, want)
					}
					fd, _, err := b.Dial(b.from, b.service.Addr().(*net.TCPAddr).AddrPort())
					must(t, err)
					defer unix.Close(fd)
					greet(fd)
					sent = append(sent, segments(t, fd))
				}
			})
		}
	}
}

// segments returns how many segments the socket has sent.
func segments(t testing.TB, fd int) uint32 {
	t.Helper()
	ti, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	must(t, err)
	return ti.Segs_out
}
