// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxClients is how many clients are served at once; each costs some 70 KB.
	maxClients = 32
	// firstTimeout is how long a client has for its first packet, and for taking
	// an answer. It is on this machine, which may be a busy one.
	firstTimeout = 5 * time.Second
)

// A target is what the server does requests on.
type target interface {
	Signal(unix.Signal) error
	Kill() error
	Resize(rows, columns uint16) error
}

// A server answers at a control socket.
type server struct {
	l      *net.UnixListener
	target target
	input  io.Writer // nil if the command has no input
	tty    bool
	log    *slog.Logger

	mu    sync.Mutex
	conns map[*net.UnixConn]struct{} // nil after close
	work  sync.WaitGroup
}

// newServer listens in the container's directory dir.
func newServer(dir string, s *server) error {
	// Who holds the container's lock may remove what an earlier run of it has left.
	if err := os.Remove(filepath.Join(dir, ControlFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make the control socket: %w", err)
	}
	err := inDir(dir, func(short string) (err error) {
		s.l, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(short, ControlFile), Net: "unixpacket"})
		return err
	})
	if err != nil {
		return fmt.Errorf("make the control socket: %w", err)
	}
	s.l.SetUnlinkOnClose(false) // by that name it is reached no more; it goes with its directory
	s.conns = map[*net.UnixConn]struct{}{}
	s.work.Go(s.accept)
	return nil
}

// inDir calls do with a short name for the directory dir: the address of a Unix
// socket has room for 107 bytes.
func inDir(dir string, do func(short string) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return do(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// accept takes clients until close.
func (s *server) accept() {
	for {
		c, err := s.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("the control socket is closed", "err", err)
			return
		}
		s.admit(c)
	}
}

// admit serves a client if there is room. One for which there is none is let go
// without a word: to wait until it listens would hold up the others.
func (s *server) admit(c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil || len(s.conns) >= maxClients {
		c.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.work.Go(func() {
		s.serve(c)
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.Close()
	})
}

// serve obeys one request, or those of a console.
func (s *server) serve(c *net.UnixConn) {
	_ = c.SetDeadline(time.Now().Add(firstTimeout))
	var q request
	if err := readPacket(c, &q); err != nil {
		return
	}
	a := answer{}
	err := s.obey(&q, &a)
	if err != nil {
		a.Error = err.Error()
	}
	_ = c.SetDeadline(time.Now().Add(firstTimeout)) // a signal waits for the command to run
	if writePacket(c, &a) != nil || err != nil || q.Op != opOpen {
		return
	}
	_ = c.SetDeadline(time.Time{})
	for {
		var q request
		if err := readPacket(c, &q); err != nil {
			return
		}
		if q.Op == opOpen || s.obey(&q, &a) != nil {
			return
		}
	}
}

// obey does what a request asks for.
func (s *server) obey(q *request, a *answer) error {
	switch q.Op {
	case opSignal:
		return s.target.Signal(unix.Signal(q.Signal))
	case opKill:
		return s.target.Kill()
	case opResize:
		return s.target.Resize(q.Rows, q.Columns)
	case opOpen:
		a.TTY, a.Input = s.tty, s.input != nil
		return nil
	case opInput:
		if s.input == nil {
			return errors.New("the container has no input: it was started without -i")
		}
		_, err := s.input.Write(q.Data)
		return err
	}
	return fmt.Errorf("unknown request %q", q.Op)
}

// close lets all clients go. Whatever holds one of them up, such as a full input,
// must have been closed before.
func (s *server) close() {
	s.l.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.work.Wait()
}
