// SPDX-License-Identifier: Apache-2.0

package slirpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/portfwd/unixhttp"
	"github.com/slipway-net/slipway/tap"
)

const (
	// MaxRequest bounds a request (bytes); slirp4netns' buffer is as large, and one
	// that fills it is refused.
	MaxRequest = 4096
	// DefaultClients is how many clients are served at once; more wait their turn.
	DefaultClients = 32
	// DefaultTimeout is how long a client may take for its request, and for reading
	// the reply.
	DefaultTimeout = 10 * time.Second
	// lingerTime and lingerSize (bytes) bound what a client may still send when it
	// has its reply: closing the connection on unread bytes would take the end of
	// the reply for an error (unix(7), ECONNRESET).
	lingerTime = time.Second
	lingerSize = 1 << 20
)

// Ports are what requests change. A *portfwd.Table is one.
type Ports interface {
	Add(ctx context.Context, rules []portfwd.Rule) ([]portfwd.Port, error)
	Remove(ctx context.Context, ids []int, cut bool) error
	Ports() []portfwd.Port
}

var _ Ports = (*portfwd.Table)(nil)

// A Config says what a Server works with. Ports and Plan are needed.
type Config struct {
	Ports Ports
	// Plan has the container's addresses, for requests that give none.
	Plan tap.Plan
	// Clients is how many are served at once; 0 means DefaultClients.
	Clients int
	// Timeout is how long a client may take; 0 means DefaultTimeout.
	Timeout time.Duration
	// Log receives each request at level debug. Nil discards it.
	Log *slog.Logger
}

// A Server answers at a socket until it is closed. Make it with Listen.
type Server struct {
	cfg      Config
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	clients  sync.WaitGroup
	slots    chan struct{}
	once     sync.Once
	err      error
}

// Listen answers at the socket path, which only our user may connect to. A socket that
// nobody listens at is replaced; errors.Is finds os.ErrExist where something else is
// there.
func Listen(path string, cfg Config) (*Server, error) {
	l, err := unixhttp.ListenSocket(path)
	if err != nil {
		return nil, err
	}
	return serve(l, cfg), nil
}

// serve answers at the listener, which is the Server's from now on.
func serve(l net.Listener, cfg Config) *Server {
	cfg.Clients = cmp.Or(cfg.Clients, DefaultClients)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, listener: l, slots: make(chan struct{}, cfg.Clients)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.clients.Go(s.accept)
	return s
}

// Close ends all clients, waits for that, and removes the socket. It may be called
// again.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.cancel()
		s.err = s.listener.Close()
		s.clients.Wait()
	})
	return s.err
}

// accept serves clients until the listener is closed.
func (s *Server) accept() {
	for {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		c, err := s.listener.Accept()
		if err != nil {
			<-s.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.cfg.Log.Warn("an API client was not let in", "err", err)
			if !s.pause() {
				return
			}
			continue
		}
		s.clients.Go(func() {
			defer func() { <-s.slots }()
			s.client(c)
		})
	}
}

// pause waits before the next attempt after a failure, which is a lack of descriptors
// most likely, and reports whether there is to be one.
func (s *Server) pause() bool {
	const pause = 100 * time.Millisecond
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// client serves one client.
func (s *Server) client(c net.Conn) {
	defer c.Close()
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	reply := s.reply(ctx, c)
	stop()
	// In one piece: Podman reads once.
	_ = c.SetWriteDeadline(time.Now().Add(s.cfg.Timeout))
	stop = context.AfterFunc(s.ctx, func() { c.Close() })
	defer stop()
	if _, err := c.Write(reply); err != nil {
		s.cfg.Log.Debug("an API client did not take its reply", "err", err)
		return
	}
	if u, ok := c.(*net.UnixConn); ok && u.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c, lingerSize)
	}
}

// reply reads the request from r, does what it asks for, and returns the answer.
func (s *Server) reply(ctx context.Context, r io.Reader) []byte {
	var answer any
	req, err := readRequest(r)
	if err == nil {
		s.cfg.Log.Debug("API request", "execute", req.execute)
		answer, err = s.execute(ctx, req)
	}
	if err != nil {
		s.cfg.Log.Debug("API request failed", "err", err)
		answer = errorReply{errorDesc{err.Error()}}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		panic("slirpapi: a reply that is no JSON: " + err.Error()) // they are all ours
	}
	return b
}
