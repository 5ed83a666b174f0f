// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds a test that would otherwise hang; nothing is timed by it.
const patience = 60 * time.Second

// A fake is a container that remembers what was asked of it.
type fake struct {
	mu    sync.Mutex
	asked []string
	gate  chan struct{} // closed when signals may pass
}

func (f *fake) note(s string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, s)
	return nil
}

func (f *fake) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.asked, " ")
}

func (f *fake) Signal(sig unix.Signal) error {
	if f.gate != nil {
		<-f.gate
	}
	return f.note(unix.SignalName(sig))
}
func (f *fake) Kill() error { return f.note("kill") }
func (f *fake) Resize(rows, columns uint16) error {
	return f.note("resize")
}

// serve starts a server of t's, and returns its directory.
func serve(t *testing.T, f *fake, input io.Writer) (string, *server) {
	t.Helper()
	// Longer than the address of a socket may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &server{target: f, input: input, tty: true, log: slog.New(slog.DiscardHandler)}
	if err := newServer(dir, s); err != nil {
		t.Fatal(err)
	}
	return dir, s
}

func files(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestRequests(t *testing.T) {
	_, first := serve(t, &fake{}, nil) // opens the descriptors that the Go runtime polls with
	first.close()
	before, goroutines := files(t), runtime.NumGoroutine()
	f := &fake{}
	r, w := io.Pipe()
	dir, s := serve(t, f, w)
	c := NewClient(dir)
	if err := errors.Join(c.Signal(t.Context(), unix.SIGHUP), c.Kill(t.Context())); err != nil {
		t.Fatal(err)
	}
	con, err := c.Console(t.Context())
	if err != nil || !con.TTY || !con.Input {
		t.Fatalf("Console: %+v, %v", con, err)
	}
	if err := con.Resize(1, 2); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 3*maxInput+1)
	go func() {
		if _, err := con.Write([]byte(text)); err != nil {
			t.Errorf("Write: %v", err)
		}
		con.Close()
	}()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
		t.Errorf("the input is %d bytes, %v", len(got), err)
	}
	if got := f.said(); got != "SIGHUP kill resize" {
		t.Errorf("asked %q", got)
	}
	s.close()
	if err := c.Signal(t.Context(), unix.SIGHUP); err == nil {
		t.Error("a signal after the end was taken")
	}
	if after := files(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines before, %d after", goroutines, runtime.NumGoroutine())
		}
	}
}

// TestHostileClients says what no client says.
func TestHostileClients(t *testing.T) {
	f := &fake{}
	dir, s := serve(t, f, nil)
	defer s.close()
	for _, packet := range []string{"{", "null", `{"op":"fly"}`, `{"op":"input","data":"eA=="}`, strings.Repeat("x", maxPacket)} {
		conn := dial(t, dir)
		if _, err := conn.Write([]byte(packet)); err != nil {
			t.Fatal(err)
		}
		var a answer
		if err := readPacket(conn, &a); err == nil && a.Error == "" {
			t.Errorf("%.30q was obeyed: %+v", packet, a)
		}
		conn.Close()
	}
	if got := f.said(); got != "" {
		t.Errorf("asked %q", got)
	}
}

func dial(t *testing.T, dir string) *net.UnixConn {
	t.Helper()
	var conn *net.UnixConn
	err := inDir(dir, func(short string) (err error) {
		conn, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(short, ControlFile), Net: "unixpacket"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestSilentClients connects as often as there is room, and says nothing: who comes
// then is told, and as soon as one has gone others are served.
func TestSilentClients(t *testing.T) {
	f := &fake{}
	dir, s := serve(t, f, nil)
	var silent []*net.UnixConn
	for range maxClients {
		silent = append(silent, dial(t, dir))
	}
	c := NewClient(dir)
	if err := c.Kill(t.Context()); err == nil || !strings.Contains(err.Error(), "clients already") {
		t.Errorf("Kill: %v, want that there are too many", err)
	}
	silent[0].Close()
	for end := time.Now().Add(patience); c.Kill(t.Context()) != nil; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("nobody is served any more")
		}
	}
	s.close() // with the silent ones still there
	for _, conn := range silent[1:] {
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("a silent client hears %d bytes, %v", n, err)
		}
		conn.Close()
	}
}

// TestImpatientClient does not wait for a command that does not start.
func TestImpatientClient(t *testing.T) {
	f := &fake{gate: make(chan struct{})}
	dir, s := serve(t, f, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- NewClient(dir).Signal(ctx, unix.SIGTERM) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Signal: %v, want it to be cancelled", err)
	}
	close(f.gate)
	s.close()
}

func FuzzPacket(f *testing.F) {
	f.Add([]byte(`{"op":"signal","signal":15}`))
	f.Add([]byte(`{"op":"input","data":"eA=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q request
		if decodePacket(b, &q) == nil {
			s := &server{target: &fake{}, input: io.Discard}
			_ = s.obey(&q, &answer{})
		}
	})
}
