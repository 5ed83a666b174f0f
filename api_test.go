// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// A rootlessPort is a port as RootlessKit's API has it (openapi.yaml, PortStatus).
type rootlessPort struct {
	ID   int          `json:"id"`
	Spec rootlessSpec `json:"spec"`
}

// rootlessSpec is its PortSpec.
type rootlessSpec struct {
	Proto      string `json:"proto"`
	ParentIP   string `json:"parentIP,omitempty"`
	ParentPort uint16 `json:"parentPort"`
	ChildIP    string `json:"childIP,omitempty"`
	ChildPort  uint16 `json:"childPort"`
}

// curl makes a request of the API, and decodes the reply into what got points to,
// unless that is nil. It returns the status.
func (p published) curl(t *testing.T, method, path string, body, got any) int {
	t.Helper()
	args := []string{"-sS", "-m", "20", "--unix-socket", p.api, "-X", method, "-w", `\n%{http_code}`, "http://rootlesskit" + path}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "-H", "Content-Type: application/json", "-d", string(b))
	}
	r := finish(t, exec.Command("curl", args...))
	i := strings.LastIndexByte(r.stdout, '\n')
	code, err := strconv.Atoi(r.stdout[i+1:])
	if r.code != 0 || err != nil {
		t.Fatalf("curl %s %s: %+v", method, path, r)
	}
	if got != nil {
		if err := json.Unmarshal([]byte(r.stdout[:max(0, i)]), got); err != nil {
			t.Fatalf("%s %s: %d, %v: %s", method, path, code, err, r.stdout)
		}
	}
	return code
}

// freePort returns a port that no TCP or UDP socket of the host has.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			c.Close()
			return l.Addr().(*net.TCPAddr).AddrPort().Port()
		}
	}
	t.Fatal("no port is free")
	return 0
}

// pass sends a line, and waits for it.
func pass(t *testing.T, from, to net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(from, line); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(line))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != line {
		t.Fatalf("got %q, %v, want %q", got, err, line)
	}
}

// patience is when a wait that would otherwise never end is over.
func patience() time.Time { return time.Now().Add(attachtest.Patience) }

// addrOf returns the address as netip has it.
func addrOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// TestRootlessKitAPI speaks RootlessKit's API by curl, as nerdctl's and Docker's clients
// do. Traffic flows by the ports that are added so, until they are deleted; connections
// go on.
func TestRootlessKitAPI(t *testing.T) {
	attachtest.NeedTools(t, "curl")
	w := attachtest.Open(t)
	for _, accel := range []string{"auto", "off"} {
		t.Run("accel "+accel, func(t *testing.T) {
			h := attachAPI(t, "--accel", accel)
			h.paths(t, accel)
			var info struct {
				APIVersion    string `json:"apiVersion"`
				StateDir      string `json:"stateDir"`
				ChildPID      int    `json:"childPID"`
				NetworkDriver struct{ Driver, ChildIP string }
				PortDriver    struct{ Protos []string }
			}
			if code := h.curl(t, "GET", "/v1/info", nil, &info); code != 200 || info.APIVersion != "1.1.1" || info.ChildPID != h.c.PID() ||
				info.NetworkDriver.ChildIP != "10.0.2.100" || len(info.PortDriver.Protos) != 6 {
				t.Errorf("GET /v1/info: %d %+v", code, info)
			}
			var ports []rootlessPort
			if code := h.curl(t, "GET", "/v1/ports", nil, &ports); code != 200 || len(ports) != 0 {
				t.Errorf("GET /v1/ports: %d %+v, want none", code, ports)
			}
			l := h.c.Listen(t, netip.MustParseAddrPort("[::]:0"))
			tcp := h.post(t, rootlessSpec{Proto: "tcp", ParentPort: freePort(t), ChildPort: addrOf(l.Addr()).Port()})
			u := h.c.ListenPacket(t, netip.MustParseAddrPort("127.0.0.1:0"))
			udp := h.post(t, rootlessSpec{Proto: "udp", ParentPort: freePort(t), ChildIP: "127.0.0.1", ChildPort: addrOf(u.LocalAddr()).Port()})
			var lasting [][2]net.Conn
			for _, f := range attachtest.Families() {
				lasting = append(lasting, h.enter(t, w.Peer, netip.AddrPortFrom(f.HostAddr, tcp.Spec.ParentPort), l))
				asks(t, w.Peer, netip.AddrPortFrom(f.HostAddr, udp.Spec.ParentPort), u)
			}
			if code := h.curl(t, "GET", "/v1/ports", nil, &ports); code != 200 || fmt.Sprint(ports) != fmt.Sprint([]rootlessPort{tcp, udp}) {
				t.Errorf("GET /v1/ports: %d %+v, want %+v", code, ports, []rootlessPort{tcp, udp})
			}
			for _, p := range []rootlessPort{tcp, udp} {
				path := fmt.Sprint("/v1/ports/", p.ID)
				if code := h.curl(t, "DELETE", path, nil, nil); code != 200 {
					t.Errorf("DELETE %s: %d", path, code)
				}
				var fault struct{ Message string }
				if code := h.curl(t, "DELETE", path, nil, &fault); code != 404 || !strings.Contains(fault.Message, strconv.Itoa(p.ID)) {
					t.Errorf("DELETE %s again: %d %q", path, code, fault.Message)
				}
			}
			for i, f := range attachtest.Families() {
				closed(t, w.Peer, netip.AddrPortFrom(f.HostAddr, tcp.Spec.ParentPort), netip.AddrPortFrom(f.HostAddr, udp.Spec.ParentPort))
				pass(t, lasting[i][0], lasting[i][1], "still there?")
				pass(t, lasting[i][1], lasting[i][0], "yes")
			}
		})
	}
}

// paths waits until TCP goes the way that was asked for.
func (p published) paths(t *testing.T, accel string) {
	t.Helper()
	for _, f := range attachtest.Families() {
		if accel == "auto" {
			p.stderr.wait(t, "TCP is spliced", f.Name)
		}
	}
}

// post adds a port.
func (p published) post(t *testing.T, spec rootlessSpec) (added rootlessPort) {
	t.Helper()
	if code := p.curl(t, "POST", "/v1/ports", spec, &added); code != 201 || added.ID == 0 || added.Spec != spec {
		t.Fatalf("POST /v1/ports %+v: %d %+v", spec, code, added)
	}
	var fault struct{ Message string }
	if code := p.curl(t, "POST", "/v1/ports", spec, &fault); code != 409 || !strings.Contains(fault.Message, strconv.Itoa(int(spec.ParentPort))) {
		t.Errorf("POST /v1/ports %+v again: %d %q", spec, code, fault.Message)
	}
	return added
}

// enter connects from the place to the published port, has bytes pass both ways, and
// returns both ends.
func (p published) enter(t *testing.T, from *attachtest.Place, host netip.AddrPort, l *net.TCPListener) [2]net.Conn {
	t.Helper()
	c, err := from.Dial(t, "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetDeadline(patience()); err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.SetDeadline(patience()); err != nil {
		t.Fatal(err)
	}
	if got, want := addrOf(s.RemoteAddr()), addrOf(c.LocalAddr()); got != want {
		t.Errorf("the container sees %v, the client is %v", got, want)
	}
	pass(t, c, s, "question")
	pass(t, s, c, "answer")
	return [2]net.Conn{c, s}
}

// asks sends a datagram to the published port, and has it answered in the container.
func asks(t *testing.T, from *attachtest.Place, host netip.AddrPort, service *net.UDPConn) {
	t.Helper()
	c, err := from.Dial(t, "udp", host)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "question"); err != nil {
		t.Fatal(err)
	}
	if err := service.SetDeadline(patience()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	n, client, err := service.ReadFromUDPAddrPort(b)
	if err != nil || string(b[:n]) != "question" {
		t.Fatalf("the service got %q, %v", b[:n], err)
	}
	if _, err := service.WriteToUDPAddrPort([]byte("answer"), client); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(b); err != nil || string(b[:n]) != "answer" {
		t.Errorf("the client got %q, %v", b[:n], err)
	}
}

// closed has the place find nobody at two ports of the host's.
func closed(t *testing.T, from *attachtest.Place, tcp, udp netip.AddrPort) {
	t.Helper()
	if _, err := from.Dial(t, "tcp", tcp); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connect to %v: %v, want %v", tcp, err, unix.ECONNREFUSED)
	}
	c, err := from.Dial(t, "udp", udp)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "anybody there?"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("read from %v: %v, want %v", udp, err, unix.ECONNREFUSED)
	}
}

// TestAPICrowd has a thousand clients at the API's socket that say nothing, or half a
// request: traffic goes on, and when they have left the API answers.
func TestAPICrowd(t *testing.T) {
	const (
		clients = 1000
		some    = 64 << 20 // bytes that pass before, while and after they are there
	)
	w := attachtest.Open(t)
	f := attachtest.Families()[0]
	for _, accel := range []string{"auto", "off"} {
		t.Run("accel "+accel, func(t *testing.T) {
			h := attachAPI(t, "--accel", accel)
			h.paths(t, accel)
			l := h.c.Listen(t, netip.MustParseAddrPort("[::]:0"))
			rule := fmt.Sprintf("%s:0:%d", f.HostAddr, addrOf(l.Addr()).Port())
			port := decodePorts(t, slipway(t, "ports", "--json", h.api, "add", rule))[0]
			ends := h.enter(t, w.Peer, netip.MustParseAddrPort(port.Host), l)
			sent := make(chan error, 1)
			go func() {
				_, err := io.Copy(ends[0], endless{})
				sent <- err
			}()
			t.Cleanup(func() { ends[0].Close(); <-sent }) // it fails by that
			flows := func(when string) {
				t.Helper()
				if n, err := io.CopyN(io.Discard, ends[1], some); err != nil {
					t.Fatalf("%s: %d bytes passed, then: %v", when, n, err)
				}
			}
			flows("before the crowd")
			crowd := make([]net.Conn, clients)
			for i := range crowd {
				c, err := net.Dial("unix", h.api)
				if err != nil {
					t.Fatalf("client %d: %v", i, err)
				}
				defer c.Close()
				if crowd[i] = c; i%2 == 0 {
					continue
				}
				if _, err := io.WriteString(c, "POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Le"); err != nil {
					t.Fatalf("client %d: %v", i, err)
				}
			}
			flows("with the crowd")
			for _, c := range crowd {
				c.Close()
			}
			flows("after the crowd")
			if ports := h.list(t); len(ports) != 1 || ports[0].ID != port.ID {
				t.Errorf("ports after the crowd: %+v", ports)
			}
		})
	}
}

// endless is a reader without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
