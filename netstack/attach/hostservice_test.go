// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/netstack/policy"
	"golang.org/x/sys/unix"
)

// The ports of these tests, at the container's side: loopbackPort leads to
// loopbackHost, and socketPort to a Unix socket.
const (
	loopbackPort = 7000
	loopbackHost = 17000
	socketPort   = 5432
)

// TestHostLoopbackByPort reaches one port of the host's loopback, and not its
// neighbours, by TCP and by UDP.
func TestHostLoopbackByPort(t *testing.T) { paths(t, hostLoopbackByPort) }

func hostLoopbackByPort(t *testing.T, path string) {
	plan := newPlan(t)
	at := func(a netip.Addr) policy.LoopbackAt {
		return policy.LoopbackAt{Addr: a, PortLo: loopbackPort, PortHi: loopbackPort, HostPort: loopbackHost}
	}
	// At the gateway, and at an address that nobody else has.
	addrs := map[bool][]netip.Addr{}
	r := startOn(t, path, func(cfg *attach.Config) {
		for _, f := range plan.Families() {
			addrs[f.Gateway.Is6()] = []netip.Addr{f.Gateway, f.DNS.Next()}
			for _, a := range addrs[f.Gateway.Is6()] {
				cfg.HostLoopback = append(cfg.HostLoopback, at(a))
			}
		}
	})
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.Host.Listen(t, netip.AddrPortFrom(f.Loopback, loopbackHost))
		u := r.Host.ListenPacket(t, netip.AddrPortFrom(f.Loopback, loopbackHost))
		// These are there on the host, and must not be for the container.
		for _, port := range []uint16{loopbackPort, loopbackPort + 1, loopbackHost + 1} {
			r.Host.Listen(t, netip.AddrPortFrom(f.Loopback, port))
			r.Host.ListenPacket(t, netip.AddrPortFrom(f.Loopback, port))
		}
		for _, a := range addrs[f.Is6()] {
			p := r.connectTo(t, l, netip.AddrPortFrom(a, loopbackPort))
			exchange(t, p.container, p.peer)
			exchange(t, p.peer, p.container)
			c, err := r.c.Dial(t, "udp", netip.AddrPortFrom(a, loopbackPort))
			if err != nil {
				t.Fatal(err)
			}
			answers(t, c.(*net.UDPConn), u)
			for _, port := range []uint16{loopbackPort - 1, loopbackPort + 1, loopbackHost, loopbackHost + 1} {
				dst := netip.AddrPortFrom(a, port)
				if _, err := r.c.Dial(t, "tcp", dst); !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("connect to %s: %v, want %v", dst, err, unix.ECONNREFUSED)
				}
				c, err := r.c.Dial(t, "udp", dst)
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Write([]byte("hello"))
				if err == nil {
					_, err = c.Read(make([]byte, 1))
				}
				if !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("UDP to %s: %v, want %v", dst, err, unix.ECONNREFUSED)
				}
			}
		}
		r.c.Exec(t, "ping", "-c", "1", "-W", "5", addrs[f.Is6()][1].String())
	})
}

// answers sends a datagram from the container, and one back to where it came from.
func answers(t *testing.T, c, server *net.UDPConn) {
	t.Helper()
	deadline(t, server)
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	var b [16]byte
	n, from, err := server.ReadFromUDPAddrPort(b[:])
	if err != nil || string(b[:n]) != "question" {
		t.Fatalf("the server reads %q, %v", b[:n], err)
	}
	if _, err := server.WriteToUDPAddrPort([]byte("answer"), from); err != nil {
		t.Fatal(err)
	}
	// The socket is connected: it takes only what comes from where it sent to.
	if n, err := c.Read(b[:]); err != nil || string(b[:n]) != "answer" {
		t.Fatalf("the container reads %q, %v", b[:n], err)
	}
}

// socketRig starts a session with a host socket at the gateways, which a deny rule
// for everything does not close.
func socketRig(t *testing.T, path string) (r *rig, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "service")
	r = startOn(t, path, func(cfg *attach.Config) {
		cfg.HostSockets = []policy.SocketAt{{Port: socketPort, Path: socket}}
		for _, s := range []string{"0.0.0.0/0", "::/0"} {
			cfg.Rules = append(cfg.Rules, policy.Rule{Action: policy.Deny, Prefix: netip.MustParsePrefix(s)})
		}
	})
	return r, socket
}

// serveAt listens at a Unix socket until the test ends.
func serveAt(t testing.TB, socket string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A socketPair is a connection of the container's to a Unix socket.
type socketPair struct {
	container *net.TCPConn
	service   *net.UnixConn
}

func (r *rig) connectSocket(t testing.TB, l *net.UnixListener, gateway netip.Addr) socketPair {
	t.Helper()
	dst := netip.AddrPortFrom(gateway, socketPort)
	c, err := r.c.Dial(t, "tcp", dst)
	if err != nil {
		t.Fatalf("connect to %s: %v", dst, err)
	}
	u, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	if err := u.SetDeadline(deadlineNow()); err != nil {
		t.Fatal(err)
	}
	p := socketPair{c.(*net.TCPConn), u}
	f := r.flowOf(t, tcpPair{container: p.container})
	if f.Path != r.path || f.HostSocket != l.Addr().String() || f.Remote != dst || f.Host.IsValid() {
		t.Errorf("the flow is %+v, want one by the path %s from %s to %s", f, r.path, dst, l.Addr())
	}
	return p
}

// half is an end of a connection that can be closed by halves.
type half interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// TestHostSocketBytes sends 64 MB each way at once.
func TestHostSocketBytes(t *testing.T) { paths(t, hostSocketBytes) }

func hostSocketBytes(t *testing.T, path string) {
	r, socket := socketRig(t, path)
	l := serveAt(t, socket)
	families(t, func(t *testing.T, f attachtest.Family) {
		p := r.connectSocket(t, l, r.family(f).Gateway)
		type sum struct {
			hash.Hash
			err error
		}
		const size = 64 << 20
		sums := make(chan sum, 4)
		for i, end := range []half{p.container, p.service} {
			go func() {
				s := sum{Hash: sha256.New()}
				_, s.err = io.CopyN(io.MultiWriter(end, s), rand.NewChaCha8([32]byte{byte(i)}), size)
				s.err = errors.Join(s.err, end.CloseWrite())
				sums <- s
			}()
			go func() {
				s := sum{Hash: sha256.New()}
				_, s.err = io.Copy(s, end)
				sums <- s
			}()
		}
		seen := map[string]int{}
		for range cap(sums) {
			s := <-sums
			if s.err != nil {
				t.Error(s.err)
			}
			seen[string(s.Sum(nil))]++
		}
		for _, n := range seen {
			if n != 2 {
				t.Errorf("bytes were read that are not those written: %d of 2 have one sum", n)
			}
		}
		r.noFlows(t)
	})
}

// TestHostSocketHalfClose uses each half of a connection after the other was closed.
func TestHostSocketHalfClose(t *testing.T) { paths(t, hostSocketHalfClose) }

func hostSocketHalfClose(t *testing.T, path string) {
	r, socket := socketRig(t, path)
	l := serveAt(t, socket)
	families(t, func(t *testing.T, f attachtest.Family) {
		for _, first := range []string{"container", "service"} {
			t.Run(first+" first", func(t *testing.T) {
				p := r.connectSocket(t, l, r.family(f).Gateway)
				a, b := half(p.container), half(p.service)
				if first == "service" {
					a, b = b, a
				}
				for _, end := range []struct{ from, to half }{{a, b}, {b, a}} {
					_, err := end.from.Write([]byte("last words"))
					if err := errors.Join(err, end.from.CloseWrite()); err != nil {
						t.Fatal(err)
					}
					if got, err := io.ReadAll(end.to); err != nil || string(got) != "last words" {
						t.Errorf("read %q, %v", got, err)
					}
				}
			})
		}
	})
	r.noFlows(t)
}

// TestHostSocketEnds breaks connections off at either end.
func TestHostSocketEnds(t *testing.T) { paths(t, hostSocketEnds) }

func hostSocketEnds(t *testing.T, path string) {
	r, socket := socketRig(t, path)
	l := serveAt(t, socket)
	families(t, func(t *testing.T, f attachtest.Family) {
		t.Run("reset by the container", func(t *testing.T) {
			// A Unix socket knows no reset: the service sees the end.
			p := r.connectSocket(t, l, r.family(f).Gateway)
			if err := errors.Join(p.container.SetLinger(0), p.container.Close()); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(p.service); err != nil || len(got) != 0 {
				t.Errorf("the service reads %q, %v, want the end", got, err)
			}
		})
		t.Run("closed by the service, which has not read all", func(t *testing.T) {
			p := r.connectSocket(t, l, r.family(f).Gateway)
			if _, err := p.container.Write([]byte("question")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(p.service, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if err := p.service.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := p.container.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the container reads %v, want %v", err, unix.ECONNRESET)
			}
		})
		t.Run("answered and closed while the container sends", func(t *testing.T) {
			answered(t, r.connectSocket(t, l, r.family(f).Gateway))
		})
	})
	r.noFlows(t)
}

// answered has the service answer and close while the container sends without end.
func answered(t *testing.T, p socketPair) {
	t.Helper()
	answer := bytes.Repeat([]byte("answer "), 20<<10)
	wrote := make(chan error, 1)
	go func() {
		_, err := io.Copy(p.container, rand.NewChaCha8([32]byte{}))
		wrote <- err
	}()
	// The service reads nothing more, until it has answered.
	if _, err := io.ReadFull(p.service, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	raw, err := p.service.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// Without data that it has not read, its end is no reset.
	stop := func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RD) }
	if err := errors.Join(raw.Control(stop), err); err != nil {
		t.Fatal(err)
	}
	_, err = p.service.Write(answer)
	if err := errors.Join(err, p.service.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(answer))
	if n, err := io.ReadFull(p.container, got); err != nil || !bytes.Equal(got, answer) {
		t.Errorf("the container reads %d bytes of %d, %v", n, len(answer), err)
	}
	if err := <-wrote; !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("the container's write: %v, want %v", err, unix.ECONNRESET)
	}
}

// TestHostSocketSlowReader has a service that does not read: the container's writes
// come to a stop, and all is there in the end.
func TestHostSocketSlowReader(t *testing.T) { paths(t, hostSocketSlowReader) }

func hostSocketSlowReader(t *testing.T, path string) {
	r, socket := socketRig(t, path)
	l := serveAt(t, socket)
	families(t, func(t *testing.T, f attachtest.Family) {
		p := r.connectSocket(t, l, r.family(f).Gateway)
		chunk := make([]byte, 1<<20)
		sent := 0
		for stuck := false; !stuck; {
			if err := p.container.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			n, err := p.container.Write(chunk)
			sent += n
			stuck = errors.Is(err, os.ErrDeadlineExceeded)
			if sent > 256<<20 {
				t.Fatalf("%d bytes went to a service that reads nothing", sent)
			}
		}
		if err := p.container.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, p.service); err != nil || n != int64(sent) {
			t.Errorf("the service reads %d bytes, %v, want %d", n, err, sent)
		}
	})
}

// TestHostSocketComesAndGoes dials a socket that is missing, there, closed to the
// user, left behind, and replaced.
func TestHostSocketComesAndGoes(t *testing.T) { paths(t, hostSocketComesAndGoes) }

func hostSocketComesAndGoes(t *testing.T, path string) {
	r, socket := socketRig(t, path)
	if r.logged("the host has no such socket now") != 1 {
		t.Error("the log does not say that the socket is missing")
	}
	families(t, func(t *testing.T, f attachtest.Family) {
		gateway := r.family(f).Gateway
		refused := func(what string) {
			t.Helper()
			if _, err := r.c.Dial(t, "tcp", netip.AddrPortFrom(gateway, socketPort)); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("connect to a socket that is %s: %v, want %v", what, err, unix.ECONNREFUSED)
			}
		}
		refused("missing")
		first := serveAt(t, socket)
		first.SetUnlinkOnClose(false)
		p := r.connectSocket(t, first, gateway)
		if err := os.Chmod(socket, 0); err != nil {
			t.Fatal(err)
		}
		forbidden := map[bool]error{false: unix.EHOSTUNREACH, true: unix.EACCES}[f.Is6()]
		if _, err := r.c.Dial(t, "tcp", netip.AddrPortFrom(gateway, socketPort)); !errors.Is(err, forbidden) {
			t.Errorf("connect to a socket that is closed to the user: %v, want %v", err, forbidden)
		}
		if err := os.Chmod(socket, 0o600); err != nil {
			t.Fatal(err)
		}
		first.Close()
		refused("left behind")
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
		second := serveAt(t, socket)
		q := r.connectSocket(t, second, gateway)
		for _, p := range []socketPair{p, q} { // both go on
			if _, err := p.container.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(p.service, make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
		second.Close()
	})
}
