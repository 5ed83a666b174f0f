// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/policy"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// socketPort is where the container finds the socket of newSocketRig.
const socketPort = 5432

// newSocketRig starts a Network that has a socket of the host at the gateways.
func newSocketRig(t testing.TB) (r *rig, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	return newRig(t, options{sockets: []policy.SocketAt{{Port: socketPort, Path: path}}}), path
}

func listenUnix(t testing.TB, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// connectUnix connects the container to a service at the listener.
func connectUnix(t testing.TB, r *rig, l *net.UnixListener, gateway netip.Addr) (*gonet.TCPConn, *net.UnixConn) {
	t.Helper()
	inside, err := r.dial(netip.AddrPortFrom(gateway, socketPort))
	must(t, err)
	t.Cleanup(func() { inside.Close() })
	service, err := l.AcceptUnix()
	must(t, err)
	t.Cleanup(func() { service.Close() })
	return inside, service
}

func TestHostSocketCarriesBytesBothWays(t *testing.T) {
	r, path := newSocketRig(t)
	l := listenUnix(t, path)
	for family, f := range families(r) {
		t.Run(family, func(t *testing.T) {
			inside, service := connectUnix(t, r, l, f.gateway)
			up, down := random(3<<20+17), random(5<<20+1)
			go func() { inside.Write(up); inside.CloseWrite() }()
			go func() { service.Write(down); service.CloseWrite() }()
			gotUp := make(chan [32]byte)
			go func() { gotUp <- sum(service) }()
			if got := sum(inside); got != sha256.Sum256(down) {
				t.Error("the container got other bytes than the service sent")
			}
			if got := <-gotUp; got != sha256.Sum256(up) {
				t.Error("the service got other bytes than the container sent")
			}
		})
	}
	eventually(func() bool { return len(r.net.Flows(context.Background())) == 0 })
}

func TestHostSocketHalfClose(t *testing.T) {
	r, path := newSocketRig(t)
	l := listenUnix(t, path)
	type half interface {
		io.ReadWriteCloser
		CloseWrite() error
	}
	for family, f := range families(r) {
		for _, first := range []string{"container", "service"} {
			t.Run(family+"/"+first+" first", func(t *testing.T) {
				inside, service := connectUnix(t, r, l, f.gateway)
				a, b := half(inside), half(service)
				if first == "service" {
					a, b = b, a
				}
				must(t, a.CloseWrite())
				if got, err := io.ReadAll(b); err != nil || len(got) != 0 {
					t.Fatalf("read %q, %v; want EOF", got, err)
				}
				_, err := b.Write([]byte("late"))
				must(t, errors.Join(err, b.Close()))
				if got, err := io.ReadAll(a); err != nil || string(got) != "late" {
					t.Errorf("read %q, %v", got, err)
				}
			})
		}
	}
}

// TestHostSocketRefused connects where nobody can answer.
func TestHostSocketRefused(t *testing.T) {
	r, path := newSocketRig(t)
	f := families(r)["IPv4"]
	for _, tt := range []struct {
		name string
		make func(t *testing.T)
	}{
		{"missing", func(*testing.T) {}},
		{"nobody listens", func(t *testing.T) {
			l := listenUnix(t, path)
			l.SetUnlinkOnClose(false)
			l.Close()
		}},
		{"a file", func(t *testing.T) { must(t, os.WriteFile(path, nil, 0o600)) }},
		{"datagram socket", func(t *testing.T) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			must(t, err)
			t.Cleanup(func() { c.Close() })
		}},
		{"loop", func(t *testing.T) { must(t, os.Symlink(path, path)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.make(t)
			before := r.counter("connects_failed")
			if _, err := r.dial(netip.AddrPortFrom(f.gateway, socketPort)); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("dial: %v, want refused", err)
			}
			if r.counter("connects_failed") == before {
				t.Error("connects_failed does not count it")
			}
			os.Remove(path)
		})
	}
	if !strings.Contains(r.log.String(), "socket="+path) {
		t.Errorf("the log does not name the socket:\n%s", r.log)
	}
}

// TestHostSocketReplaced has a service that starts again, with a new socket.
func TestHostSocketReplaced(t *testing.T) {
	r, path := newSocketRig(t)
	f := families(r)["IPv6"]
	old := listenUnix(t, path)
	inside, service := connectUnix(t, r, old, f.gateway)
	must(t, os.Remove(path))
	l := listenUnix(t, path)
	connectUnix(t, r, l, f.gateway)
	// The connection to the old one goes on.
	_, err := service.Write([]byte("old"))
	must(t, errors.Join(err, service.Close()))
	if got, err := io.ReadAll(inside); err != nil || string(got) != "old" {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestHostSocketBusy has a service that does not accept: the container is not
// refused, but waits, and connects when the service goes on.
func TestHostSocketBusy(t *testing.T) {
	r, path := newSocketRig(t)
	f := families(r)["IPv4"]
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	must(t, unix.Listen(fd, 0)) // one may wait
	file := os.NewFile(uintptr(fd), path)
	listener, err := net.FileListener(file)
	must(t, errors.Join(err, file.Close()))
	l := listener.(*net.UnixListener)
	defer l.Close()
	waits, err := net.Dial("unix", path)
	must(t, err)
	defer waits.Close()
	dialed := make(chan error, 1)
	go func() {
		c, err := r.dial(netip.AddrPortFrom(f.gateway, socketPort))
		if err == nil {
			c.Close()
		}
		dialed <- err
	}()
	eventually(func() bool { return r.counter("connects_failed") > 0 })
	for range 2 {
		c, err := l.Accept()
		must(t, err)
		defer c.Close()
	}
	must(t, <-dialed)
}

// TestHostSocketClosed has a service that answers and closes while the container
// sends: the container gets the answer, and then hears that not all was taken.
func TestHostSocketClosed(t *testing.T) {
	r, path := newSocketRig(t)
	l := listenUnix(t, path)
	for family, f := range families(r) {
		t.Run(family, func(t *testing.T) {
			inside, service := connectUnix(t, r, l, f.gateway)
			must(t, inside.SetDeadline(time.Now().Add(time.Minute)))
			// Both happen in one turn of the loop: it sees the bytes that go up when
			// the service is gone already.
			held, release := make(chan struct{}), make(chan struct{})
			r.net.loop.Post(func() { close(held); <-release })
			<-held
			answer := random(64 << 10)
			_, err := inside.Write([]byte("more"))
			must(t, err)
			_, err = service.Write(answer)
			must(t, errors.Join(err, service.Close()))
			close(release)
			got := make([]byte, len(answer))
			if n, err := io.ReadFull(inside, got); err != nil || !bytes.Equal(got, answer) {
				t.Errorf("the container reads %d bytes of %d, %v", n, len(answer), err)
			}
			eventually(func() bool { _, err := inside.Write([]byte("x")); return err != nil })
		})
	}
}

func TestHostSocketFlowIsListed(t *testing.T) {
	r, path := newSocketRig(t)
	l := listenUnix(t, path)
	f := families(r)["IPv4"]
	inside, service := connectUnix(t, r, l, f.gateway)
	_, err := inside.Write([]byte("12345"))
	must(t, err)
	_, err = io.ReadFull(service, make([]byte, 5))
	must(t, err)
	flows := r.net.Flows(context.Background())
	if len(flows) != 1 {
		t.Fatalf("%d flows, want 1: %v", len(flows), flows)
	}
	got := flows[0]
	want := FlowInfo{
		ID: got.ID, Proto: "tcp", Path: PathStacked, State: "open", Direction: DirectionOut,
		Container:  netip.MustParseAddrPort(inside.LocalAddr().String()),
		Remote:     netip.AddrPortFrom(f.gateway, socketPort),
		HostSocket: path,
		BytesUp:    5,
		Age:        got.Age, Idle: got.Idle,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("flow (-want +got):\n%s", diff)
	}
}

// TestUDPByPort sends to ports that lead to others of the host's, of which two to one.
func TestUDPByPort(t *testing.T) {
	plan := newRig(t, options{}).plan
	for _, f := range plan.Families() {
		loopback := map[bool]netip.Addr{true: netip.MustParseAddr("127.0.0.1"), false: netip.IPv6Loopback()}[f.Gateway.Is4()]
		outside, host := listenUDP(t, loopback, loopback)
		at := func(port uint16) policy.LoopbackAt {
			return policy.LoopbackAt{Addr: f.DNS.Next(), PortLo: port, PortHi: port, HostPort: host.Port(), Proto: policy.UDP}
		}
		r := newRig(t, options{loopback: []policy.LoopbackAt{at(1), at(2)}})
		inside := r.packet(netip.AddrPort{}, f.Gateway.Is6())
		for _, port := range []uint16{2, 1} {
			dst := netip.AddrPortFrom(f.DNS.Next(), port)
			_, err := inside.WriteTo([]byte("question"), net.UDPAddrFromAddrPort(dst))
			must(t, err)
			var b [16]byte
			_, from, err := outside.ReadFromUDPAddrPort(b[:])
			must(t, err)
			_, err = outside.WriteToUDPAddrPort([]byte("answer"), from)
			must(t, err)
			n, seen, err := inside.ReadFrom(b[:])
			must(t, err)
			if netip.MustParseAddrPort(seen.String()) != dst {
				t.Errorf("%q comes from %v, want %v", b[:n], seen, dst)
			}
		}
	}
}
