// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// apiTimeout bounds how long a client may take for a request.
	apiTimeout = 10 * time.Second
	// apiHeader bounds the size of a request's header (bytes).
	apiHeader = 16 << 10
	// apiClients bounds how many clients are served at once; others wait.
	apiClients = 32
	// captureBacklog bounds the frames that wait for a client to read its capture;
	// above it frames are left out, since traffic never waits for a client.
	captureBacklog = 4096
)

// An API answers questions about a session, as HTTP on a UNIX socket:
//
//	GET /v1/flows     FlowInfo of every flow, as JSON
//	GET /v1/counters  every Counter, as JSON
//	GET /v1/pcap      the frames of the tap from now on, until the client leaves
//
// The socket has mode 0600: it is for its owner. Make an API with Listen and
// close it before the session.
type API struct {
	path   string
	server *http.Server
	done   chan struct{}
	log    *slog.Logger
	ctx    context.Context
	stop   context.CancelFunc
	busy   atomic.Bool // a capture is under way
	close  sync.Once
}

// Listen answers at the socket path, which must not exist: a stale socket, which
// nobody listens at, is replaced.
func Listen(path string, s *Session) (*API, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen at the API socket: %w", err)
	}
	// Between bind and chmod the socket has the umask's mode; the directory
	// protects it, and nobody is accepted before.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect the API socket: %w", err)
	}
	a := &API{path: path, done: make(chan struct{}), log: s.log}
	a.ctx, a.stop = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/flows", func(w http.ResponseWriter, r *http.Request) { reply(w, s.Flows(r.Context())) })
	mux.HandleFunc("GET /v1/counters", func(w http.ResponseWriter, r *http.Request) { reply(w, s.Counters()) })
	mux.HandleFunc("GET /v1/pcap", func(w http.ResponseWriter, r *http.Request) { a.capture(w, r, s) })
	a.server = &http.Server{
		Handler:           mux,
		ReadTimeout:       apiTimeout,
		ReadHeaderTimeout: apiTimeout,
		IdleTimeout:       apiTimeout,
		MaxHeaderBytes:    apiHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return a.ctx },
	}
	go func() {
		defer close(a.done)
		if err := a.server.Serve(newLimited(l, apiClients)); !errors.Is(err, http.ErrServerClosed) {
			a.log.Warn("the API socket is closed", "err", err)
		}
	}()
	return a, nil
}

// Close ends all clients and removes the socket. It may be called again.
func (a *API) Close() error {
	var err error
	a.close.Do(func() {
		a.stop()
		err = a.server.Close()
		<-a.done
	})
	return err
}

// capture streams the tap's frames to a client.
func (a *API) capture(w http.ResponseWriter, r *http.Request, s *Session) {
	if !a.busy.CompareAndSwap(false, true) {
		http.Error(w, "a capture is under way already", http.StatusConflict)
		return
	}
	defer a.busy.Store(false)
	q := make(frameQueue, captureBacklog)
	if err := s.StartCapture(q); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer s.StopCapture()
	w.Header().Set("Content-Type", "application/vnd.tcpdump.pcap")
	flush := http.NewResponseController(w)
	for {
		select {
		case <-r.Context().Done():
			return
		case b := <-q:
			if _, err := w.Write(b); err != nil {
				return
			}
		}
		if len(q) == 0 && flush.Flush() != nil {
			return
		}
	}
}

// A frameQueue takes writes without ever waiting.
type frameQueue chan []byte

// Write implements io.Writer.
func (q frameQueue) Write(b []byte) (int, error) {
	select {
	case q <- append([]byte(nil), b...):
	default: // the client does not keep up: leave the frame out
	}
	return len(b), nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// An error means that the client has gone.
	_ = json.NewEncoder(w).Encode(v)
}

// removeStale removes a socket at path that nobody listens at.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the API socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("API socket %s: there is a file of that name, and it is not a socket: choose another", path)
	}
	if c, err := net.DialTimeout("unix", path, apiTimeout); err == nil {
		c.Close()
		return fmt.Errorf("API socket %s: another process listens there: choose another", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the stale API socket: %w", err)
	}
	return nil
}

// limited is a listener that has no more than cap(slots) connections open.
type limited struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	close  func()
}

func newLimited(l net.Listener, clients int) *limited {
	closed := make(chan struct{})
	return &limited{
		Listener: l, slots: make(chan struct{}, clients),
		closed: closed, close: sync.OnceFunc(func() { close(closed) }),
	}
}

// Accept waits for a free slot, too.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close ends Accept, also where it waits for a slot: http.Server.Close waits for
// that before it closes any connection.
func (l *limited) Close() error {
	l.close()
	return l.Listener.Close()
}

// limitedConn gives its slot back when it is closed.
type limitedConn struct {
	net.Conn
	free func()
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// A Client asks a running session's API. The zero Client is not usable: make one
// with Dial.
type Client struct{ http *http.Client }

// Dial returns a client of the API at the socket path. It connects when it is
// first asked.
func Dial(path string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// Get returns the body of the answer to GET /v1/what, which the caller closes.
func (c *Client) Get(ctx context.Context, what string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://slipway/v1/"+what, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", what, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", what, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, apiHeader))
		return nil, fmt.Errorf("ask for %s: %s: %s", what, resp.Status, text)
	}
	return resp.Body, nil
}
