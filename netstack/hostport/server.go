// SPDX-License-Identifier: Apache-2.0

package hostport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/relay"
	"golang.org/x/sys/unix"
)

const (
	// MaxClients is how many clients a Server has at a time, lest the container take all
	// descriptors.
	MaxClients = 1024
	// maxAccepts is how many are accepted before it is another's turn.
	maxAccepts = 64
	// acceptPause is between tries to accept, where the process lacks something, such as
	// descriptors.
	acceptPause = 100 * time.Millisecond
)

// A Listener is a listening, non-blocking TCP socket at the container's loopback. It is a
// plain value.
type Listener struct {
	// FD stays its owner's, who closes it after the Server.
	FD int
	// To is where clients are led: an address and port of the host's loopback.
	To netip.AddrPort
}

// A Server leads clients to the host. Make one with New, Run it on one goroutine, and
// Close it when Run has returned.
type Server struct {
	loop      *loop.Loop
	listeners []Listener
	pool      relay.Pool
	clients   map[*client]struct{}
	waiting   bool // clients may wait for whom there was no room
	paused    bool // they are looked after by the clock
}

// New returns a Server of the listeners.
func New(listeners []Listener) (*Server, error) {
	s := &Server{listeners: listeners, clients: make(map[*client]struct{})}
	var err error
	if s.loop, err = loop.New(); err != nil {
		return nil, err
	}
	for _, l := range listeners {
		_, err := s.loop.Add(l.FD, loop.Readable|loop.Edge, loop.HandlerFunc(func(loop.Events) { s.acceptAll(l) }))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("watch for clients of %s: %w", l.To, err), s.Close())
		}
	}
	return s, nil
}

// Run leads clients until ctx is done, and then returns nil. Those that are still there
// are reset.
func (s *Server) Run(ctx context.Context) error {
	err := s.loop.Run(ctx)
	for c := range s.clients {
		c.end(true)
	}
	return err
}

// Close gives back what New took. It may be called again.
func (s *Server) Close() error {
	s.pool.Close()
	return s.loop.Close()
}

// acceptAll accepts who waits, some at a time.
func (s *Server) acceptAll(l Listener) {
	for range maxAccepts {
		if len(s.clients) >= MaxClients {
			s.waiting = true
			return
		}
		fd, _, err := unix.Accept4(l.FD, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			s.lead(fd, l.To)
		case unix.EAGAIN, unix.EINVAL: // nobody; or it listens no more (ss -K in the container)
			return
		case unix.EINTR, unix.ECONNABORTED:
		default:
			s.pause()
			return
		}
	}
	s.loop.Defer(func() { s.acceptAll(l) })
}

// pause looks for clients again in a moment.
func (s *Server) pause() {
	if s.paused {
		return
	}
	s.paused = true
	time.AfterFunc(acceptPause, func() {
		s.loop.Post(func() {
			s.paused = false
			s.acceptWaiting()
		})
	})
}

// acceptWaiting looks for clients at every listener.
func (s *Server) acceptWaiting() {
	s.waiting = false
	for _, l := range s.listeners {
		s.acceptAll(l)
	}
}

// forget forgets a client, and has another come in its place.
func (s *Server) forget(c *client) {
	delete(s.clients, c)
	if s.waiting {
		s.waiting = false
		s.loop.Defer(s.acceptWaiting)
	}
}
