// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// MaxConns is how many TCP connections are served at a time. More are
	// closed at once.
	MaxConns = 64
	// IdleTimeout is how long a TCP connection may be without a whole query, and
	// how long the container may take to receive an answer (RFC 7766 §6.2.3
	// asks for a few seconds).
	IdleTimeout = 10 * time.Second
	// maxPipelined is how many queries of one connection may be in flight; more
	// wait in the connection.
	maxPipelined = 16
)

// ServeTCP answers the queries that come over a connection of the container, each
// as soon as it can (RFC 7766 §6.2.1.1), until the container closes it or its
// sending half, IdleTimeout passes, or ctx ends. It closes conn. The error is nil
// for all these, and otherwise what broke the connection.
func (f *Forwarder) ServeTCP(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	select {
	case f.conns <- struct{}{}:
		defer func() { <-f.conns }()
	default:
		f.stats.dropped.Add(1)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s := stream{forwarder: f, conn: conn, slots: make(chan struct{}, maxPipelined)}
	err := s.serve(ctx)
	if errors.Is(err, errUnanswered) || ctx.Err() != nil || benign(err) {
		return nil
	}
	return fmt.Errorf("serve dns over tcp: %w", err)
}

// errUnanswered ends a connection with a query that gets no answer: on TCP the
// container would wait for it.
var errUnanswered = errors.New("query without answer")

// A stream is one TCP connection being served.
type stream struct {
	forwarder *Forwarder
	conn      net.Conn
	slots     chan struct{} // one for each query in flight
	running   sync.WaitGroup

	mu  sync.Mutex // guards writing and err
	err error      // the first that an answer met
}

// serve returns when no query is in flight any more.
func (s *stream) serve(ctx context.Context) error {
	err := s.read(ctx)
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return err
}

func (s *stream) read(ctx context.Context) error {
	for {
		s.slots <- struct{}{}
		if err := s.conn.SetReadDeadline(time.Now().Add(IdleTimeout)); err != nil {
			return err
		}
		query, err := readMessage(s.conn)
		if err != nil {
			return err
		}
		s.running.Go(func() {
			defer func() { <-s.slots }()
			s.answer(ctx, query)
		})
	}
}

func (s *stream) answer(ctx context.Context, query []byte) {
	b := s.forwarder.Exchange(ctx, query, true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = errUnanswered
	if b != nil {
		s.err = s.conn.SetWriteDeadline(time.Now().Add(IdleTimeout))
		if s.err == nil {
			s.err = writeMessage(s.conn, b)
		}
	}
	if s.err != nil {
		s.conn.Close()
	}
}

// benign reports whether err is one of the ways in which a connection ends.
func benign(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed)
}
