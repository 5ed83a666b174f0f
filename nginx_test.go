// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// nginxConf has nginx say whom each request is from. It is root in the container, and
// has no other user there; what it writes goes to the container's own /run.
const nginxConf = `
daemon off;
user root root;
worker_processes 2;
pid /run/nginx.pid;
error_log stderr notice;
events {}
http {
	log_format client $remote_addr;
	access_log /dev/stdout client;
	client_body_temp_path /run/body;
	proxy_temp_path /run/proxy;
	fastcgi_temp_path /run/fastcgi;
	uwsgi_temp_path /run/uwsgi;
	scgi_temp_path /run/scgi;
	server {
		listen 8080 backlog=4096;
		listen [::]:8080 backlog=4096;
		location / { return 200 "hello from the container\n"; }
	}
}
`

// A tally counts the lines that are written to it, by what they are.
type tally struct {
	rest []byte // of a line that has not ended
	n    map[string]int
}

func (t *tally) Write(b []byte) (int, error) {
	t.rest = append(t.rest, b...)
	for {
		line, rest, whole := bytes.Cut(t.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		t.n[string(line)]++
		t.rest = rest
	}
}

// nginx is a container with nginx, and its published port.
type nginx struct {
	clients *tally
	stderr  *lines
	port    uint16
	stop    func() // ends it, unless it has ended
}

// startNginx runs it until it is stopped, or the test ends.
func startNginx(t *testing.T, accel string) *nginx {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "nginx.conf")
	if err := os.WriteFile(conf, []byte(nginxConf), 0o600); err != nil {
		t.Fatal(err)
	}
	n := &nginx{clients: &tally{n: map[string]int{}}, stderr: newLines()}
	cmd := exec.Command(binary(t), "run", "--accel", accel, "--log-level", "info", "-p", "0:8080", "--", "nginx", "-e", "stderr", "-c", conf)
	cmd.Stdout, cmd.Stderr = n.clients, n.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	n.stop = sync.OnceFunc(func() {
		kill := time.AfterFunc(attachtest.Patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := <-ended; err != nil {
			t.Errorf("slipway run: %v, want nginx' exit code 0", err)
		}
	})
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("slipway run wrote:\n%s", n.stderr.String())
		}
	})
	line := n.stderr.wait(t, "port is published")
	rule := regexp.MustCompile(`rule=:?(\d+):8080`).FindStringSubmatch(line)
	if rule == nil {
		t.Fatalf("no port in %q", line)
	}
	port, err := strconv.ParseUint(rule[1], 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	n.port = uint16(port)
	n.stderr.wait(t, "start worker processes")
	return n
}

// TestNginx has an HTTP server that real clients load through a published port, and that
// sees no address but theirs.
func TestNginx(t *testing.T) {
	attachtest.NeedTools(t, "nginx", "wrk")
	w := attachtest.Open(t)
	for _, accel := range []string{"auto", "off"} {
		t.Run("accel "+accel, func(t *testing.T) {
			n := startNginx(t, accel)
			if accel == "auto" {
				for _, f := range attachtest.Families() {
					n.stderr.wait(t, "TCP is spliced", f.Name)
				}
			}
			var loads []*attachtest.Process
			for _, f := range attachtest.Families() {
				url := "http://" + netip.AddrPortFrom(f.HostAddr, n.port).String() + "/"
				loads = append(loads, w.Peer.Start(t, "wrk", "--threads", "1", "--connections", "32", "--duration", "1", url))
			}
			served := 0
			for i, load := range loads {
				served += requests(t, attachtest.Families()[i].Name, load)
			}
			n.stop() // then all is logged
			seen, logged := n.clients.n, 0
			for _, f := range attachtest.Families() {
				logged += seen[f.PeerAddr.String()]
				if seen[f.PeerAddr.String()] == 0 {
					t.Errorf("nginx saw nothing from %s", f.PeerAddr)
				}
				delete(seen, f.PeerAddr.String())
			}
			if len(seen) > 0 {
				t.Errorf("nginx saw clients that do not exist: %v", seen)
			}
			if logged < served {
				t.Errorf("nginx logged %d requests of %d", logged, served)
			}
		})
	}
}

// requests waits for wrk's end and returns how many requests it has made, none of which
// may have failed.
func requests(t *testing.T, name string, load *attachtest.Process) int {
	t.Helper()
	line := load.WaitLine(t, "requests in")
	var more strings.Builder
	for {
		s, err := load.Out.ReadString('\n')
		more.WriteString(s)
		if err != nil {
			break
		}
	}
	if code := load.Wait(t); code != 0 {
		t.Errorf("%s: wrk ended with exit code %d", name, code)
	}
	for _, bad := range []string{"Socket errors", "Non-2xx"} {
		if strings.Contains(more.String(), bad) {
			t.Errorf("%s: %s%s", name, line, &more)
		}
	}
	var n int
	if _, err := fmt.Sscan(line, &n); err != nil || n == 0 {
		t.Errorf("%s: wrk says %q", name, line)
	}
	return n
}
