// SPDX-License-Identifier: Apache-2.0

package attachtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience bounds a wait that would otherwise never end. Nothing is timed by it.
const Patience = 20 * time.Second

// A Place is a process in namespaces of its own that makes sockets and runs
// commands for a test. Its methods may be called from any goroutine.
type Place struct {
	conn  *net.UnixConn
	pid   int
	wait  func() // for the agent's end
	close sync.Once
}

// NewContainer makes a container of the plain user, who is root in it: a process
// in a user, mount and network namespace of its own. The test's end ends it.
func NewContainer(t testing.TB) *Place {
	t.Helper()
	Open(t)
	return newPlace(t, func(in *os.File, argv []string) (func(), error) {
		argv = append([]string{"unshare", "--user", "--map-root-user", "--net", "--mount", "--"}, argv...)
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdin, cmd.Stderr = in, os.Stderr
		return func() { _ = cmd.Wait() }, cmd.Start()
	})
}

// Split makes a place in a network namespace of its own, in the user namespace of
// this one, whose capabilities it needs.
func (p *Place) Split(t testing.TB) *Place {
	t.Helper()
	return newPlace(t, func(in *os.File, argv []string) (func(), error) {
		argv = append([]string{"unshare", "--net", "--mount", "--"}, argv...)
		done, err := p.start(argv, in, os.Stderr, os.Stderr)
		if err != nil {
			return nil, err
		}
		return func() { receive(done); done.Close() }, nil
	})
}

// NewPlace makes a place by a command that runs another one: its arguments are followed
// by those of the place's process, which must get its standard input. The test's end
// ends that process, and Close waits for the end of the command, too. Where it ends
// before there is a place, the test ends.
func NewPlace(t testing.TB, cmd *exec.Cmd) *Place {
	t.Helper()
	Open(t)
	return newPlace(t, func(in *os.File, argv []string) (func(), error) {
		cmd.Args = append(cmd.Args, argv...)
		cmd.Stdin = in
		return func() { _ = cmd.Wait() }, cmd.Start()
	})
}

// newPlace makes a place of what start starts: an agent that reads from in.
func newPlace(t testing.TB, start func(in *os.File, argv []string) (wait func(), err error)) *Place {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wait, err := start(theirs, []string{self, agentWord})
	theirs.Close()
	if err != nil {
		ours.Close()
		t.Fatalf("start an agent: %v", err)
	}
	p, err := openPlace(ours)
	if err != nil {
		t.Fatal(err)
	}
	p.wait = wait
	t.Cleanup(p.Close)
	return p
}

// openPlace returns the place of the agent behind the socket, when it is there.
func openPlace(socket *os.File) (*Place, error) {
	conn, err := connOf(socket)
	if err != nil {
		return nil, err
	}
	p := &Place{conn: conn, wait: func() {}}
	r, _, err := p.ask(request{}, nil)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("wait for the agent: %w", err)
	}
	p.pid = r.PID
	return p, nil
}

// Close ends the place's process, and with it its namespaces, and waits for that.
// Sockets that were made there keep the network namespace, too.
func (p *Place) Close() {
	p.close.Do(func() {
		p.conn.Close()
		p.wait()
	})
}

// PID returns the id of the place's process.
func (p *Place) PID() int { return p.pid }

// NetNSPath returns the path of the place's network namespace.
func (p *Place) NetNSPath() string { return fmt.Sprintf("/proc/%d/ns/net", p.pid) }

// Socket makes a socket in the place. The caller closes it.
func (p *Place) Socket(t testing.TB, domain, kind, proto int) *os.File {
	t.Helper()
	f, err := p.socket(socketRequest{Domain: domain, Type: kind, Proto: proto})
	if err != nil {
		t.Fatalf("make a socket: %v", err)
	}
	return f
}

// Dial connects from the place to addr by TCP or UDP ("tcp", "udp"). The error is
// the errno of connect(2). The test's end closes the connection, if nobody did.
func (p *Place) Dial(t testing.TB, network string, addr netip.AddrPort) (net.Conn, error) {
	t.Helper()
	f, err := p.socket(socketRequest{Domain: domainOf(addr.Addr()), Type: kindOf(network)})
	if err != nil {
		t.Fatalf("make a socket: %v", err)
	}
	if err := connect(int(f.Fd()), addr); err != nil {
		f.Close()
		return nil, err
	}
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, c.SetDeadline(time.Now().Add(Patience))
}

// connect waits for a connection at most Patience.
func connect(fd int, addr netip.AddrPort) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	err := unix.Connect(fd, sockaddr(addr))
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for end := time.Now().Add(Patience); ; {
		n, err := unix.Poll(poll, int(time.Until(end).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("connect to %s: nothing happened in %v", addr, Patience)
		}
		errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && errno != 0 {
			err = unix.Errno(errno)
		}
		if err == nil && poll[0].Revents&unix.POLLOUT == 0 {
			// The kernel puts an ICMP error on the error queue, which wakes us, before
			// it makes it the socket's (tcp_v4_err of net/ipv4/tcp_ipv4.c).
			continue
		}
		return err
	}
}

// Listen listens for TCP in the place. The test's end closes the listener.
func (p *Place) Listen(t testing.TB, addr netip.AddrPort) *net.TCPListener {
	t.Helper()
	f, err := p.socket(socketRequest{Domain: domainOf(addr.Addr()), Type: unix.SOCK_STREAM, Bind: addr, Backlog: unix.SOMAXCONN})
	if err != nil {
		t.Fatalf("listen at %s: %v", addr, err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// ListenPacket makes a UDP socket in the place. The test's end closes it.
func (p *Place) ListenPacket(t testing.TB, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	f, err := p.socket(socketRequest{Domain: domainOf(addr.Addr()), Type: unix.SOCK_DGRAM, Bind: addr})
	if err != nil {
		t.Fatalf("bind to %s: %v", addr, err)
	}
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// Exec runs a command in the place and returns what it wrote. Its failure ends
// the test.
func (p *Place) Exec(t testing.TB, argv ...string) string {
	t.Helper()
	out, code := p.Run(t, argv...)
	if code != 0 {
		t.Fatalf("%s: exit code %d: %s", strings.Join(argv, " "), code, out)
	}
	return out
}

// Run runs a command in the place and returns what it wrote, to standard output
// and error, and its exit code.
func (p *Place) Run(t testing.TB, argv ...string) (string, int) {
	t.Helper()
	proc := p.Start(t, argv...)
	out, err := io.ReadAll(proc.Out)
	if err != nil {
		t.Fatalf("read from %q: %v", argv, err)
	}
	code := proc.Wait(t)
	proc.Kill()
	return string(out), code
}

func (p *Place) socket(s socketRequest) (*os.File, error) {
	r, files, err := p.ask(request{Socket: &s}, nil)
	switch {
	case err != nil:
		return nil, err
	case r.Errno != 0:
		return nil, fmt.Errorf("%s (%w)", r.Err, r.Errno)
	case len(files) != 1:
		return nil, fmt.Errorf("%d sockets came back: %s", len(files), r.Err)
	}
	return files[0], nil
}

// ask sends a request and waits for the reply.
func (p *Place) ask(req request, files []*os.File) (reply, []*os.File, error) {
	c, err := p.post(req, files)
	if err != nil {
		return reply{}, nil, err
	}
	defer c.Close()
	return await(c)
}

// post sends a request and returns the connection on which the reply comes.
func (p *Place) post(req request, files []*os.File) (*net.UnixConn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c, err := connOf(ours)
	if err != nil {
		return nil, err
	}
	if err := send(p.conn, req, append([]*os.File{theirs}, files...)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func await(c *net.UnixConn) (reply, []*os.File, error) {
	body, files, err := receive(c)
	if err != nil {
		return reply{}, nil, err
	}
	var r reply
	return r, files, json.Unmarshal(body, &r)
}

func (p *Place) start(argv []string, in, out, errs *os.File) (*net.UnixConn, error) {
	return p.post(request{Run: argv}, []*os.File{in, out, errs})
}

func domainOf(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func kindOf(network string) int {
	if network == "tcp" {
		return unix.SOCK_STREAM
	}
	return unix.SOCK_DGRAM
}
