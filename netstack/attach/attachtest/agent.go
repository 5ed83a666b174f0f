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
	"syscall"

	"github.com/slipway-net/slipway/tap/seqpacket"
	"golang.org/x/sys/unix"
)

// agentWord is the first argument of the test binary where it is an agent.
const agentWord = "attachtest-agent"

const (
	maxMessage = 64 << 10 // bytes of a request or a reply
	maxFDs     = 4        // that go with one
)

// A request is one message to an agent. With it goes a socket for the reply, the
// closing of which ends what the request began, and the three streams of a
// command.
type request struct {
	Socket *socketRequest `json:",omitempty"`
	Run    []string       `json:",omitempty"`
}

// A socketRequest asks for a socket, bound to an address where that is valid.
type socketRequest struct {
	Domain, Type, Proto int
	Bind                netip.AddrPort
	Backlog             int // listens, if greater than 0
}

// A reply is an agent's answer. With it goes the socket, if one was asked for.
type reply struct {
	PID   int // the agent's
	Errno unix.Errno
	Err   string
	Code  int // the command's exit code, 128 and its signal where one killed it
}

// serve is an agent: it answers what comes in on the socket until that is closed.
func serve(socket *os.File) error {
	c, err := connOf(socket)
	if err != nil {
		return err
	}
	for {
		body, fds, err := receive(c)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		go answer(body, fds)
	}
}

// answer does what one request asks for.
func answer(body []byte, fds []*os.File) {
	defer closeAll(fds)
	if len(fds) == 0 {
		return
	}
	c, err := connOf(fds[0])
	if err != nil {
		return
	}
	defer c.Close()
	var req request
	r := reply{PID: os.Getpid()}
	var made []*os.File
	switch err := json.Unmarshal(body, &req); {
	case err != nil:
		r.Err = err.Error()
	case req.Socket != nil:
		f, err := req.Socket.open()
		if err != nil {
			r.Err = err.Error()
			errors.As(err, &r.Errno)
		} else {
			made = append(made, f)
		}
	case len(req.Run) > 0:
		r.Code, err = run(req.Run, fds[1:], c)
		if err != nil {
			r.Err = err.Error()
		}
	}
	// An error means that nobody waits for the reply.
	_ = send(c, r, made)
	closeAll(made)
}

func (s *socketRequest) open() (*os.File, error) {
	fd, err := unix.Socket(s.Domain, s.Type|unix.SOCK_CLOEXEC, s.Proto)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	if s.Bind.IsValid() {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return nil, errors.Join(os.NewSyscallError("setsockopt", err), f.Close())
		}
		if err := unix.Bind(fd, sockaddr(s.Bind)); err != nil {
			return nil, errors.Join(os.NewSyscallError("bind", err), f.Close())
		}
	}
	if s.Backlog > 0 {
		if err := unix.Listen(fd, s.Backlog); err != nil {
			return nil, errors.Join(os.NewSyscallError("listen", err), f.Close())
		}
	}
	return f, nil
}

// run runs a command to its end, or to that of the connection.
func run(argv []string, streams []*os.File, c *net.UnixConn) (int, error) {
	if len(streams) != 3 {
		return 0, fmt.Errorf("run %q: %d streams came with it", argv, len(streams))
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = streams[0], streams[1], streams[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	closeAll(streams) // the reader of the output waits for their end
	go func() {
		if _, _, err := receive(c); err != nil {
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		}
	}()
	return exitCode(cmd.Wait())
}

// exitCode turns the end of a command into a number, as a shell does.
func exitCode(err error) (int, error) {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return 0, err
	}
	if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// socketPair returns two connected sockets that keep messages apart.
func socketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "agent"), os.NewFile(uintptr(fds[1]), "agent"), nil
}

// connOf returns the socket as a connection; f is closed.
func connOf(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%s is no Unix socket", c.LocalAddr())
	}
	return u, nil
}

func send(c *net.UnixConn, v any, files []*os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	_, _, err = c.WriteMsgUnix(body, unix.UnixRights(fds...), nil)
	return err
}

// receive returns the next message; io.EOF when there will be none.
func receive(c *net.UnixConn) ([]byte, []*os.File, error) {
	body, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFDs))
	n, oobn, _, err := seqpacket.Receive(c, body, oob)
	if err != nil {
		return nil, nil, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, nil, err
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return nil, nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return body[:n], files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
