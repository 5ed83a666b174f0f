// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// DefaultClients is how many clients are served at once. A slot costs some 20 KB
	// and a descriptor while it is taken.
	DefaultClients = 64
	// DefaultTimeout is how long a request, and how long its reply, may take to pass.
	// Client and server are on one machine, which may be a busy one.
	DefaultTimeout = 5 * time.Second
	// MaxHeader bounds the header of a request (bytes).
	MaxHeader = 16 << 10
	// MaxBody bounds the body of a request (bytes): rules for all ports of some
	// protocol, one by one, fit in.
	MaxBody = 512 << 10
	// maxDrained is how much more of a body that is too large is taken and thrown
	// away (bytes), so that its client gets to reading the reply.
	maxDrained = 8 << 20
)

// VersionHeader is the header of each reply that has Config.Version.
const VersionHeader = "Slipway-Version"

// A Config says what is served. Handler and Log are needed.
type Config struct {
	Handler http.Handler
	// Version is the program's, as the header of each reply tells it.
	Version string
	// Clients is how many are served at once; 0 means DefaultClients.
	Clients int
	// Timeout bounds the time of a request and of its reply; 0 means DefaultTimeout.
	Timeout time.Duration
	Log     *slog.Logger
}

// A Server answers at a socket until it is closed. Make it with Listen.
type Server struct {
	http   *http.Server
	done   chan struct{}
	cancel context.CancelFunc
	once   sync.Once
	err    error
}

// Listen answers at the socket path, which must not exist: a stale socket, which
// nobody listens at, is replaced. errors.Is finds os.ErrExist where something else
// is there.
func Listen(path string, cfg Config) (*Server, error) {
	if cfg.Clients == 0 {
		cfg.Clients = DefaultClients
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	l, err := ListenSocket(path)
	if err != nil {
		return nil, err
	}
	return serve(newSlots(l, cfg.Clients), isOwner, cfg), nil
}

// serve answers those users at the listener, which is the server's from now on.
func serve(l net.Listener, allowed func(uid uint32) bool, cfg Config) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{done: make(chan struct{}), cancel: cancel}
	s.http = &http.Server{
		Handler:           handler(cfg),
		ReadTimeout:       cfg.Timeout,
		ReadHeaderTimeout: cfg.Timeout,
		WriteTimeout:      2 * cfg.Timeout, // it begins with the request
		MaxHeaderBytes:    MaxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return judge(ctx, c, allowed) },
	}
	s.http.SetKeepAlivesEnabled(false)
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			cfg.Log.Warn("the API socket is closed", "err", err)
		}
	}()
	return s
}

// Close ends all clients, and the contexts of their requests, and removes the
// socket. It does not wait for handlers. It may be called again.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.cancel()
		s.err = s.http.Close()
		<-s.done
	})
	return s.err
}

// handler is the handler for owners, with the version in all replies.
func handler(cfg Config) http.Handler {
	owners := ownersOnly(cfg.Handler)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(VersionHeader, cfg.Version)
		owners.ServeHTTP(w, r)
	})
}
