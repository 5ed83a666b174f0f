// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// start serves the handler at a new socket until the test ends.
func start(t testing.TB, cfg Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api")
	cfg.Log = slog.New(slog.DiscardHandler)
	s, err := Listen(path, cfg)
	if err != nil {
		t.Fatalf("Listen: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return path
}

// echo answers with the size of the body.
func echo(w http.ResponseWriter, r *http.Request) {
	if body, ok := ReadBody(w, r); ok {
		Reply(w, http.StatusOK, len(body))
	}
}

func newClient(path string) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}

// message reads a reply, which must be JSON with one line.
func message(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var f Failure
	if err := json.Unmarshal(body, &f); err != nil || f.Message == "" || strings.Contains(f.Message, "\n") {
		t.Errorf("the reply is %q, want a message of one line", body)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("the reply is %s", got)
	}
	return f.Message
}

func TestSocket(t *testing.T) {
	path := start(t, Config{Handler: http.HandlerFunc(echo), Version: "1.2.3"})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("the socket has mode %v, want 0600", info.Mode())
	}
	resp, err := newClient(path).Post("http://x/", "", strings.NewReader("four"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "4\n" || resp.Header.Get(VersionHeader) != "1.2.3" || !resp.Close {
		t.Errorf("the reply is %q, %v, with the header %v; want the size, the version and the end", body, err, resp.Header)
	}
}

func TestListenFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(t *testing.T, path string) error
		want string // in the error, empty for none
	}{
		{"stale socket", func(_ *testing.T, path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return l.Close()
		}, ""},
		{"plain file", func(_ *testing.T, path string) error { return os.WriteFile(path, []byte("mine"), 0o600) }, "not a socket"},
		{"directory", func(_ *testing.T, path string) error { return os.Mkdir(path, 0o700) }, "not a socket"},
		{"link", func(_ *testing.T, path string) error { return os.Symlink("elsewhere", path) }, "not a socket"},
		{"socket in use", func(t *testing.T, path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}, "another process"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "api")
			if err := tt.make(t, path); err != nil {
				t.Fatal(err)
			}
			s, err := Listen(path, Config{Handler: http.HandlerFunc(echo), Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				s.Close()
			}
			if tt.want == "" {
				if err != nil {
					t.Errorf("Listen: %v", err)
				}
				return
			}
			if !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Listen: %v, want %v with %q", err, os.ErrExist, tt.want)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("what was there is not any more: %v", err)
			}
		})
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "none", "api"), Config{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Listen without the directory: %v", err)
	}
}

func TestOwner(t *testing.T) {
	for uid, want := range map[uint32]bool{0: true, uint32(os.Getuid()): true, 1<<16 - 2: os.Getuid() == 1<<16-2, 12345: os.Getuid() == 12345} {
		if got := isOwner(uid); got != want {
			t.Errorf("isOwner(%d) = %v as user %d", uid, got, os.Getuid())
		}
	}
}

// TestNotTheOwner refuses by the credentials that the kernel tells.
func TestNotTheOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api")
	l, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan uint32, 1)
	s := serve(newSlots(l, 1), func(uid uint32) bool { asked <- uid; return false }, Config{
		Log: slog.New(slog.DiscardHandler), Timeout: patience,
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it is served") }),
	})
	defer s.Close()
	for range 3 { // each gives its slot back
		resp, err := newClient(path).Get("http://x/")
		if err != nil {
			t.Fatal(err)
		}
		if got := message(t, resp); resp.StatusCode != http.StatusForbidden || !strings.Contains(got, "may not use") {
			t.Errorf("%s: %s", resp.Status, got)
		}
		if uid := <-asked; uid != uint32(os.Getuid()) {
			t.Errorf("the client is user %d, want %d", uid, os.Getuid())
		}
	}
}

func TestNoCredentials(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	if _, err := peer(here); err == nil {
		t.Error("a pipe has credentials")
	}
	here.Close()
}

func TestBodies(t *testing.T) {
	patient := start(t, Config{Handler: http.HandlerFunc(echo)})
	hasty := start(t, Config{Handler: http.HandlerFunc(echo), Timeout: 100 * time.Millisecond})
	t.Run("too large", func(t *testing.T) {
		for _, size := range []int{MaxBody + 1, 1 << 20, maxDrained} {
			for range 10 {
				resp, err := newClient(patient).Post("http://x/", "", bytes.NewReader(make([]byte, size)))
				if err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				if got := message(t, resp); resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(got, fmt.Sprint(MaxBody)) {
					t.Errorf("%d bytes: %s: %s", size, resp.Status, got)
				}
			}
		}
	})
	t.Run("largest", func(t *testing.T) {
		resp, err := newClient(patient).Post("http://x/", "", bytes.NewReader(make([]byte, MaxBody)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != fmt.Sprintln(MaxBody) {
			t.Errorf("%s: %s %v", resp.Status, body, err)
		}
	})
	for name, tt := range map[string]struct {
		request string
		status  int // 0: the connection is closed without a word
		want    string
	}{
		"half a body, and silence":   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", http.StatusRequestTimeout, "in time"},
		"half a header, and silence": {"POST / HTTP/1.1\r\nHo", http.StatusBadRequest, ""},
		"nothing":                    {"", 0, ""},
		"bad chunks":                 {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n", http.StatusBadRequest, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("unix", hasty)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if tt.status == 0 {
				if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
					t.Errorf("ReadResponse: %v, want the end", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" { // net/http itself, in plain text
				resp.Body.Close()
				if resp.StatusCode != tt.status {
					t.Errorf("%s", resp.Status)
				}
				return
			}
			if got := message(t, resp); resp.StatusCode != tt.status || !strings.Contains(got, tt.want) {
				t.Errorf("%s: %s", resp.Status, got)
			}
		})
	}
}

// TestUnreadReply cuts off a client that does not read.
func TestUnreadReply(t *testing.T) {
	ended := make(chan error, 1)
	path := start(t, Config{Timeout: 50 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(make([]byte, 16<<20))
		ended <- err
	})})
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the reply ended with %v, want its deadline", err)
		}
	case <-time.After(patience):
		t.Error("the reply never ended")
	}
}

// TestEndless has a reply that goes on long after the time of a request, until the
// client leaves.
func TestEndless(t *testing.T) {
	const timeout = 20 * time.Millisecond
	left := make(chan struct{})
	path := start(t, Config{Timeout: timeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		if err := Endless(w); err != nil {
			t.Errorf("Endless: %v", err)
		}
		flush, tick := http.NewResponseController(w), time.NewTicker(timeout)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
			_, err := w.Write([]byte("."))
			if err = errors.Join(err, flush.Flush()); err != nil {
				return
			}
		}
	})})
	resp, err := newClient(path).Get("http://x/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
		t.Errorf("the reply ended: %v", err)
	}
	resp.Body.Close()
	select {
	case <-left:
	case <-time.After(patience):
		t.Error("the handler does not know that the client has left")
	}
}

// TestManyClients has far more clients at once than slots, a part of them silent.
func TestManyClients(t *testing.T) {
	const clients, silent, slots = 1000, 100, 16
	before := runtime.NumGoroutine()
	t.Run("clients", func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		path := start(t, Config{Clients: slots, Timeout: 300 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			echo(w, r)
			mu.Lock()
			now--
			mu.Unlock()
		})})
		for range silent {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "GET /"); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		failed := make(chan error, clients)
		for range clients {
			wg.Go(func() {
				resp, err := newClient(path).Get("http://x/")
				if err != nil {
					failed <- err
					return
				}
				resp.Body.Close()
			})
		}
		wg.Wait()
		close(failed)
		for err := range failed {
			t.Errorf("a client was not served: %v", err)
		}
		if most > slots {
			t.Errorf("%d were served at once, more than %d", most, slots)
		}
	})
	late := time.After(patience)
	for tick := time.NewTicker(time.Millisecond); runtime.NumGoroutine() > before; <-tick.C {
		select {
		case <-late:
			t.Fatalf("%d goroutines are left, there were %d", runtime.NumGoroutine(), before)
		default:
		}
	}
}

// TestCloseEndsRequests has handlers that wait for their clients.
func TestCloseEndsRequests(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	path := filepath.Join(t.TempDir(), "api")
	s, err := Listen(path, Config{Clients: 1, Log: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second waits for a slot
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	<-began
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-ended
}

func TestMux(t *testing.T) {
	mux := new(Mux)
	mux.HandleFunc("GET /v1/a", echo)
	mux.HandleFunc("POST /v1/a", echo)
	path := start(t, Config{Handler: mux, Version: "v"})
	for _, tt := range []struct {
		method, path, want, allow string
		status                    int
	}{
		{"GET", "/v1/b", "/v1/b", "", http.StatusNotFound},
		{"GET", "/", "there is no /", "", http.StatusNotFound},
		{"DELETE", "/v1/a", "GET, HEAD, POST", "GET, HEAD, POST", http.StatusMethodNotAllowed},
		{"BREW", "/v1/a", "BREW", "GET, HEAD, POST", http.StatusMethodNotAllowed},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://x"+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := newClient(path).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got := message(t, resp)
		if resp.StatusCode != tt.status || !strings.Contains(got, tt.want) || resp.Header.Get("Allow") != tt.allow || resp.Header.Get(VersionHeader) != "v" {
			t.Errorf("%s %s: %s %v: %s", tt.method, tt.path, resp.Status, resp.Header, got)
		}
	}
	resp, err := newClient(path).Get("http://x/v1/a")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET /v1/a: %s", resp.Status)
	}
}
