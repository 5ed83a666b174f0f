// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// transferred is how much curl moves each way (bytes).
const transferred = 50 << 20

// serveHTTP answers at the place: GET with the data, PUT with the SHA-256 of what
// was sent. It returns the address.
func serveHTTP(t testing.TB, p *attachtest.Place, addr netip.Addr, data []byte) string {
	t.Helper()
	l := p.Listen(t, netip.AddrPortFrom(addr, 0))
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write(data)
			return
		}
		hash := sha256.New()
		if _, err := io.Copy(hash, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%x", hash.Sum(nil))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }() // until it is closed
	t.Cleanup(func() { s.Close(); <-done })
	return l.Addr().String()
}

// randomData returns bytes that no two of equal length share.
func randomData(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	return data
}

func TestCurl(t *testing.T) {
	attachtest.NeedTools(t, "curl", "sha256sum")
	w := attachtest.Open(t)
	data := randomData(transferred)
	sum := sha256.Sum256(data)
	want := hex.EncodeToString(sum[:])
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mtu := range []string{"1500", "65520"} {
		t.Run("MTU "+mtu, func(t *testing.T) {
			c := attachtest.NewContainer(t)
			attachTo(t, c, "--mtu", mtu)
			for _, f := range attachtest.Families() {
				url := "http://" + serveHTTP(t, w.Peer, f.PeerAddr, data)
				if got := c.Exec(t, "sh", "-c", "curl -sS -m 60 "+url+" | sha256sum"); !strings.HasPrefix(got, want) {
					t.Errorf("%s: what came down has the sum %s, want %s", f.Name, got, want)
				}
				if got := c.Exec(t, "curl", "-sS", "-m", "60", "-T", file, url); got != want {
					t.Errorf("%s: what went up has the sum %s, want %s", f.Name, got, want)
				}
			}
		})
	}
}

// TestIperf only proves that it works: how fast that is, the benchmark tells.
func TestIperf(t *testing.T) {
	attachtest.NeedTools(t, "iperf3")
	w := attachtest.Open(t)
	for _, mtu := range []string{"1500", "65520"} {
		t.Run("MTU "+mtu, func(t *testing.T) {
			c := attachtest.NewContainer(t)
			attachTo(t, c, "--mtu", mtu)
			for _, f := range attachtest.Families() {
				server := w.Peer.Start(t, "iperf3", "--server", "--forceflush", "--bind", f.PeerAddr.String())
				for _, flags := range [][]string{{}, {"--reverse", "--parallel", "4"}, {"--udp", "--bitrate", "100M"}} {
					server.WaitLine(t, "Server listening") // it says so after each test
					args := append([]string{"iperf3", "--time", "1", "--client", f.PeerAddr.String()}, flags...)
					if out, code := c.Run(t, args...); code != 0 || !strings.Contains(out, "iperf Done") {
						t.Errorf("%q: exit code %d: %s", args, code, out)
					}
				}
				server.Kill()
			}
		})
	}
}

func TestDig(t *testing.T) {
	attachtest.NeedTools(t, "dig")
	const dnsPort = 53
	w := attachtest.Open(t)
	f := attachtest.Families()[0]
	w.Peer.ServeDNS(t, netip.AddrPortFrom(f.PeerAddr, dnsPort))
	c := attachtest.NewContainer(t)
	attachTo(t, c, "--dns", f.PeerAddr.String())
	for _, server := range []string{"10.0.2.3", "fd00::3"} {
		for flag, want := range map[string]string{"+notcp": `"by udp"`, "+tcp": `"by tcp"`} {
			out := c.Exec(t, "dig", "+short", "+tries=1", "+timeout=10", flag, "@"+server, "TXT", "short.example.")
			if got := strings.TrimSpace(out); got != want {
				t.Errorf("dig %s @%s: %s, want %s", flag, server, got, want)
			}
		}
	}
}

// TestRun runs containers as a user does.
func TestRun(t *testing.T) {
	attachtest.NeedTools(t, "curl")
	w := attachtest.Open(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	run := func(t *testing.T, flags []string, command string) result {
		t.Helper()
		args := append(append([]string{"run"}, flags...), "--", "sh", "-c", command)
		return finish(t, exec.Command(binary(t), args...))
	}
	t.Run("exit code", func(t *testing.T) {
		if got := run(t, nil, "exit 7"); got.code != 7 || got.stdout+got.stderr != "" {
			t.Errorf("got %+v, want exit code 7 and no words", got)
		}
	})
	t.Run("network", func(t *testing.T) {
		for _, f := range attachtest.Families() {
			addr := serveHTTP(t, w.Peer, f.PeerAddr, []byte("hello from the peer"))
			if got := run(t, nil, "curl -sS -m 20 http://"+addr); got.stdout != "hello from the peer" {
				t.Errorf("%s: got %+v", f.Name, got)
			}
		}
	})
	t.Run("resolver", func(t *testing.T) {
		w.Peer.ServeDNS(t, netip.AddrPortFrom(attachtest.Families()[0].PeerAddr, 53))
		flags := []string{"--dns", attachtest.Families()[0].PeerAddr.String()}
		if got := run(t, flags, "dig +short +tries=1 +timeout=10 TXT short.example."); strings.TrimSpace(got.stdout) != `"by udp"` {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("no network", func(t *testing.T) {
		l := w.Peer.Listen(t, netip.AddrPortFrom(attachtest.Families()[0].PeerAddr, 0))
		if got := run(t, []string{"--net", "none"}, "curl -sS -m 20 http://"+l.Addr().String()); got.code == 0 {
			t.Errorf("got %+v, want a failure", got)
		}
	})
	t.Run("files", func(t *testing.T) {
		if got := run(t, nil, "mkdir -p "+dir+" && echo written > "+file+" && cat "+file); got.stdout != "written\n" {
			t.Errorf("got %+v, want the file in the container", got)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("the file is there after the container's end: %v", err)
		}
	})
	if left := processes(t); len(left) > 0 {
		t.Errorf("processes are left behind: %q", left)
	}
}
