// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// run runs a broker that starts `true` for helpers until the test ends.
func run(t *testing.T, started *atomic.Int32) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "broker")
	b, err := New(Config{Socket: socket, Log: slog.New(slog.DiscardHandler), Spawn: func(r *Request) (*os.Process, error) {
		started.Add(1)
		return os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, b.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(socket); !os.IsNotExist(err) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	return socket
}

// request is one that is in order, for the state directory.
func request(t *testing.T, state string) Request {
	t.Helper()
	r := Request{Args: []string{"--ifname", "eth0"}, NetNS: "netns-1", PidFile: filepath.Join(state, "pid"), API: filepath.Join(state, "api")}
	for _, f := range r.files() {
		dir, err := os.Open(state)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dir.Close() })
		*f = dir
	}
	return r
}

func ask(t *testing.T, socket string, r Request) error {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return Ask(ctx, socket, r)
}

func TestBroker(t *testing.T) {
	var started atomic.Int32
	socket, state := run(t, &started), t.TempDir()
	if info, err := os.Lstat(socket); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	good := request(t, state)
	if err := ask(t, socket, good); err != nil {
		t.Errorf("Ask: %v", err)
	}
	before := descriptors(t)
	for name, change := range map[string]func(*Request){
		"want one without a directory": func(r *Request) { r.NetNS = "../netns" },
		`the namespace's name is ""`:   func(r *Request) { r.NetNS = "" },
		"/elsewhere/pid is not in":     func(r *Request) { r.PidFile = "/elsewhere/pid" },
		"api is not in the state":      func(r *Request) { r.API = "api" },
		"too long":                     func(r *Request) { r.Args = []string{strings.Repeat("x", 64)} },
	} {
		r := good
		change(&r)
		var err error
		if name == "too long" {
			err = tooLong(socket)
		} else {
			err = ask(t, socket, r)
		}
		if !errors.Is(err, ErrBroker) || !strings.Contains(err.Error(), name) && name != "too long" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Descriptors are missing, or there is no request at all.
	for _, body := range []string{"{}", "", "garbage"} {
		c, err := net.Dial("unixpacket", socket)
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			if _, err := c.Write([]byte(body)); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, 4096)
			n, err := c.Read(answer)
			if err != nil || !bytes.Contains(answer[:n], []byte(`"error"`)) {
				t.Errorf("%q: %q, %v", body, answer[:n], err)
			}
		}
		c.Close()
	}
	for end := time.Now().Add(10 * time.Second); descriptors(t) > before; {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors are open, %d were before", descriptors(t), before)
		}
	}
	if n := started.Load(); n != 1 {
		t.Errorf("%d helpers were started, want 1", n)
	}
	if _, err := New(Config{Socket: socket, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "another broker") {
		t.Errorf("a second broker: %v", err)
	}
}

// tooLong sends more than a message takes, which the kernel refuses or the broker.
func tooLong(socket string) error {
	c, err := net.Dial("unixpacket", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(bytes.Repeat([]byte(" "), maxMessage+1)); err != nil {
		return fmt.Errorf("%w: %w", ErrBroker, err)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", ErrBroker, buf[:n])
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestStale replaces the socket of a broker that was killed.
func TestStale(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "broker")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Close(fd)); err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{Socket: socket, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := ask(t, socket, request(t, t.TempDir())); !errors.Is(err, ErrBroker) || !strings.Contains(err.Error(), "slipway-cni broker") {
		t.Errorf("without a broker: %v", err)
	}
}

// FuzzRequest reads what a client may send. Whatever it is, a request that is in order
// names files of the state directory only.
func FuzzRequest(f *testing.F) {
	state, err := os.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	defer state.Close()
	f.Add([]byte(`{"args":["--ifname","eth0"],"netns":"n","pid":"` + state.Name() + `/pid","api":"` + state.Name() + `/api"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := Request{Lock: state}
		if json.Unmarshal(body, &r) != nil || r.check() != nil {
			return
		}
		ours, err := state.Stat()
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{r.PidFile, r.API} {
			if dir, err := os.Stat(filepath.Dir(path)); err != nil || !os.SameFile(dir, ours) {
				t.Errorf("%s is elsewhere", path)
			}
		}
		if strings.Contains(r.NetNS, "/") || r.NetNS == ".." {
			t.Errorf("the namespace is %q", r.NetNS)
		}
	})
}
