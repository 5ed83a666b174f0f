// SPDX-License-Identifier: Apache-2.0

package slirpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/tap"
)

// patience bounds a wait that would otherwise never end.
const patience = 20 * time.Second

// fakePorts is a table without sockets, whose port 666 is in use and whose port that
// the kernel chooses is 50000.
type fakePorts struct {
	mu    sync.Mutex
	last  int
	ports []portfwd.Port
	hold  chan struct{} // Add waits for it, if not nil
}

func (f *fakePorts) Add(ctx context.Context, rules []portfwd.Rule) ([]portfwd.Port, error) {
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := rules[0]
	if err := r.Check(); err != nil {
		return nil, err
	}
	if r.HostPort == 666 {
		return nil, portfwd.ErrInUse
	}
	if r.HostPort == 0 {
		r.HostPort = 50000
	}
	f.last++
	p := portfwd.Port{
		ID: f.last, Proto: r.Proto, Host: netip.AddrPortFrom(r.Host, r.HostPort),
		Container: netip.AddrPortFrom(r.Container, r.ContainerPort),
	}
	f.ports = append(f.ports, p)
	return []portfwd.Port{p}, nil
}

func (f *fakePorts) Remove(_ context.Context, ids []int, cut bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.ports, func(p portfwd.Port) bool { return p.ID == ids[0] })
	switch {
	case cut:
		return errors.New("connections were to be cut")
	case i < 0:
		return portfwd.ErrNoPort
	case f.ports[i].Host.Port() == 667:
		return errors.New("stuck")
	}
	f.ports = slices.Delete(f.ports, i, i+1)
	return nil
}

func (f *fakePorts) Ports() []portfwd.Port {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ports)
}

func newPlan(t testing.TB) tap.Plan {
	t.Helper()
	p, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start serves until the test ends, and returns the path.
func start(t testing.TB, cfg Config) (*Server, string) {
	t.Helper()
	before := runtime.NumGoroutine()
	path := filepath.Join(t.TempDir(), "api")
	cfg.Plan = newPlan(t)
	s, err := Listen(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
		for end := time.Now().Add(patience); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		}
	})
	return s, path
}

func dial(t testing.TB, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask sends a request, ends its half of the connection if it is to, and returns what
// it reads at once and what comes after that.
func ask(t testing.TB, path, request string, half bool) (reply, rest string) {
	t.Helper()
	c := dial(t, path)
	if _, err := c.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	if half {
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	after, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%s: after the reply: %v", request, err)
	}
	return string(buf[:n]), string(after)
}

// TestRequests sends each request in turn to one server, as a client that ends its
// half of the connection and as one that does not.
func TestRequests(t *testing.T) {
	add := func(arguments string) string { return `{"execute":"add_hostfwd","arguments":{` + arguments + `}}` }
	fails := func(desc string) string { return `{"error":{"desc":"bad request: ` + desc + `"}}` }
	badArgument := func(name string) string { return fails("add_hostfwd: bad arguments." + name) }
	entry := func(id int, proto, host string, port int, guest string) string {
		return fmt.Sprintf(`{"id":%d,"proto":"%s","host_addr":"%s","host_port":%d,"guest_addr":"%s","guest_port":80}`, id, proto, host, port, guest)
	}
	list := func(entries ...string) string {
		all := strings.Join(entries, ",")
		return `{"return":{"entries":[` + all + `]},"entries":[` + all + `]}`
	}
	for _, half := range []bool{true, false} {
		_, path := start(t, Config{Ports: &fakePorts{}})
		for _, tt := range []struct{ request, reply string }{
			{`{"execute":"list_hostfwd"}`, list()},
			{add(`"proto":"tcp","host_addr":"0.0.0.0","host_port":8080,"guest_addr":"10.0.2.100","guest_port":80`), `{"return":{"id":1}}`},
			{add(`"proto":"udp","host_addr":"","host_port":53,"guest_addr":"","guest_port":80`) + "\n", `{"return":{"id":2}}`},
			{add(`"proto":"tcp","host_addr":"::1","host_port":8080,"guest_port":80,"comment":[1]`), `{"return":{"id":3}}`},
			{add(`"proto":"tcp6","host_port":8081,"guest_port":80`), `{"return":{"id":4}}`},
			{add(`"proto":"udp4","host_port":0,"guest_addr":"0.0.0.0","guest_port":80`), `{"return":{"id":5,"host_port":50000}}`},
			{add(`"proto":"tcp","host_port":667.0,"host_addr":null,"guest_port":80`), `{"return":{"id":6}}`},
			{`{"execute":"list_hostfwd","arguments":{"id":1}}`, list(
				entry(1, "tcp", "0.0.0.0", 8080, "10.0.2.100"), entry(2, "udp", "0.0.0.0", 53, "10.0.2.100"),
				entry(3, "tcp", "::1", 8080, "fd00::100"), entry(4, "tcp", "::", 8081, "fd00::100"),
				entry(5, "udp", "0.0.0.0", 50000, "10.0.2.100"), entry(6, "tcp", "0.0.0.0", 667, "10.0.2.100"))},
			{`{"execute":"remove_hostfwd","arguments":{"id":1}}`, `{"return":{}}`},
			{`{"execute":"remove_hostfwd","arguments":{"id":1}}`, fails("remove_hostfwd: bad arguments.id: there is no such port")},
			{`{"execute":"remove_hostfwd","arguments":{"id":6}}`, fails("remove_hostfwd: slirp_remove_hostfwd failed: stuck")},
			{`{"execute":"remove_hostfwd","arguments":{"id":"2"}}`, fails("remove_hostfwd: bad arguments.id")},
			{`{"execute":"remove_hostfwd","arguments":{"id":0}}`, fails("remove_hostfwd: bad arguments.id")},
			{`{"execute":"remove_hostfwd","arguments":{"id":2.5}}`, fails("remove_hostfwd: bad arguments.id")},
			{`{"execute":"remove_hostfwd","arguments":[2]}`, fails("remove_hostfwd: bad arguments.id")},
			{`{"execute":"remove_hostfwd"}`, fails("remove_hostfwd: bad arguments.id")},
			{`{"execute":"add_hostfwd"}`, badArgument("proto")},
			{add(`"proto":null,"host_port":1,"guest_port":1`), badArgument("proto")},
			{add(`"proto":"sctp","host_port":0,"guest_port":0`), badArgument("proto")},
			{add(`"proto":"tcp","host_addr":"example.com","host_port":1,"guest_port":1`), badArgument("host_addr")},
			{add(`"proto":"tcp","host_addr":1,"host_port":1,"guest_port":1`), badArgument("host_addr")},
			{add(`"proto":"tcp4","host_addr":"::1","host_port":1,"guest_port":1`), badArgument("host_addr")},
			{add(`"proto":"tcp6","host_addr":"127.0.0.1","host_port":1,"guest_port":1`), badArgument("host_addr")},
			{add(`"proto":"tcp","host_addr":"fe80::1%eth0","host_port":1,"guest_port":1`), badArgument("host_addr")},
			{add(`"proto":"tcp","host_addr":"::ffff:127.0.0.1","host_port":1,"guest_port":1`), badArgument("host_addr")},
			{add(`"proto":"tcp","guest_port":80`), badArgument("host_port")},
			{add(`"proto":"tcp","host_port":"80","guest_port":80`), badArgument("host_port")},
			{add(`"proto":"tcp","host_port":-5,"guest_port":80`), badArgument("host_port")},
			{add(`"proto":"tcp","host_port":99999,"guest_port":80`), badArgument("host_port")},
			{add(`"proto":"tcp","host_port":1,"guest_addr":"here","guest_port":80`), badArgument("guest_addr")},
			{add(`"proto":"tcp","host_port":1`), badArgument("guest_port")},
			{add(`"proto":"tcp","host_port":1,"guest_port":0`), badArgument("guest_port")},
			{add(`"proto":"tcp","host_port":1,"guest_port":1e400`), badArgument("guest_port")},
			{add(`"proto":"tcp","host_port":666,"guest_port":80`), fails("add_hostfwd: slirp_add_hostfwd failed: the port is in use")},
			{`{"execute":"add"}`, fails("unknown execute")},
			{`{"execute":1}`, fails("no execute found")},
			{`{"EXECUTE":"list_hostfwd"}`, fails("no execute found")},
			{`{}`, fails("no execute found")},
			{`[]`, fails("json_object() failed")},
			{`null`, fails("json_object() failed")},
			{`"list_hostfwd"`, fails("json_object() failed")},
			{`list_hostfwd`, fails("cannot parse JSON")},
			{`{"execute":}`, fails("cannot parse JSON")},
			{`{"execute":"` + strings.Repeat("x", MaxRequest), fails("too large message")},
		} {
			reply, rest := ask(t, path, tt.request, half)
			if rest != "" {
				t.Errorf("%s: the reply came in pieces: %q and %q", tt.request, reply, rest)
			}
			if diff := cmp.Diff(tt.reply, reply); diff != "" {
				t.Errorf("half %v: %.200s (-want +got):\n%s", half, tt.request, diff)
			}
		}
	}
}

// TestCutShort sends requests that end too early.
func TestCutShort(t *testing.T) {
	_, path := start(t, Config{Ports: &fakePorts{}})
	for _, request := range []string{"", " ", "\n", "{", `{"execute":"list_hostfwd"`, "nul"} {
		c := dial(t, path)
		if _, err := c.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if want := `{"error":{"desc":"bad request: cannot parse JSON"}}`; err != nil || string(got) != want {
			t.Errorf("%q: %q, error %v, want %q", request, got, err, want)
		}
	}
}

// TestPieces sends a request a byte at a time.
func TestPieces(t *testing.T) {
	_, path := start(t, Config{Ports: &fakePorts{}})
	c := dial(t, path)
	for _, b := range []byte(`{"execute":"list_hostfwd"}`) {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := io.ReadAll(c)
	if err != nil || !json.Valid(got) || strings.Contains(string(got), "error") {
		t.Errorf("reply %q, error %v", got, err)
	}
}

// TestSilentClients has all places but one taken by clients that say nothing, and then
// all.
func TestSilentClients(t *testing.T) {
	_, path := start(t, Config{Ports: &fakePorts{}, Clients: 3, Timeout: 200 * time.Millisecond})
	for range 2 {
		dial(t, path)
	}
	if reply, _ := ask(t, path, `{}`, false); !strings.Contains(reply, "no execute") {
		t.Errorf("beside silent clients: %q", reply)
	}
	for range 3 {
		dial(t, path)
	}
	if reply, _ := ask(t, path, `{}`, false); !strings.Contains(reply, "no execute") {
		t.Errorf("behind silent clients: %q", reply)
	}
}

// TestSlowTable has requests wait for a table that does nothing: they end with the time
// that they have, and others are served.
func TestSlowTable(t *testing.T) {
	ports := &fakePorts{hold: make(chan struct{})}
	_, path := start(t, Config{Ports: ports, Timeout: 200 * time.Millisecond})
	c := dial(t, path)
	if _, err := c.Write([]byte(`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":1,"guest_port":1}}`)); err != nil {
		t.Fatal(err)
	}
	if reply, _ := ask(t, path, `{"execute":"list_hostfwd"}`, false); strings.Contains(reply, "error") {
		t.Errorf("list: %q", reply)
	}
	if got, err := io.ReadAll(c); err != nil || !strings.Contains(string(got), context.DeadlineExceeded.Error()) {
		t.Errorf("add: %q, error %v, want that its time is up", got, err)
	}
}

// TestCloseEndsClients closes a server with clients of every kind.
func TestCloseEndsClients(t *testing.T) {
	ports := &fakePorts{hold: make(chan struct{})}
	s, path := start(t, Config{Ports: ports, Timeout: time.Hour})
	silent, busy := dial(t, path), dial(t, path)
	if _, err := busy.Write([]byte(`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":1,"guest_port":1}}`)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{silent, busy} {
		// It may get a reply, or none.
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a client is still connected")
		}
	}
}

// TestListen looks at what may be at the path before.
func TestListen(t *testing.T) {
	_, path := start(t, Config{Ports: &fakePorts{}})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, error %v, want mode 0600", info, err)
	}
	if _, err := Listen(path, Config{Ports: &fakePorts{}}); !errors.Is(err, os.ErrExist) {
		t.Errorf("Listen at a socket in use: %v, want %v", err, os.ErrExist)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, Config{Ports: &fakePorts{}}); !errors.Is(err, os.ErrExist) {
		t.Errorf("Listen at a file: %v, want %v", err, os.ErrExist)
	}
}

// FuzzRequest wants one JSON object as reply to anything, and that what was added is
// listed.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"::","host_port":0,"guest_addr":"10.0.2.100","guest_port":80}}`,
		`{"execute":"list_hostfwd"}`, `{"execute":"remove_hostfwd","arguments":{"id":1}}`, `[]`, `null`, ``, `{`, `"\ud800"`,
	} {
		f.Add([]byte(s))
	}
	plan := newPlan(f)
	f.Fuzz(func(t *testing.T, request []byte) {
		ports := &fakePorts{}
		s := &Server{cfg: Config{Ports: ports, Plan: plan, Log: slog.New(slog.DiscardHandler)}}
		b := s.reply(t.Context(), strings.NewReader(string(request)))
		var reply map[string]json.RawMessage
		if err := json.Unmarshal(b, &reply); err != nil {
			t.Fatalf("reply %q: %v", b, err)
		}
		if _, failed := reply["error"]; failed != (reply["return"] == nil) {
			t.Errorf("reply %q: want either a return or an error", b)
		}
		for _, p := range ports.Ports() {
			if err := p.Rule().Check(); err != nil {
				t.Errorf("a rule that cannot be was asked for: %v", err)
			}
		}
	})
}
