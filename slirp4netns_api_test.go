// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// apiScenarios are about the API socket.
func apiScenarios() []scenario {
	const add = `{"execute":"add_hostfwd","arguments":{%s}}`
	list := []scenario{
		{name: "API: TCP port", observe: publishedBy("tcp", false)},
		{name: "API: TCP port with host loopback disabled", observe: publishedBy("tcp", true)},
		{name: "API: UDP port", observe: publishedBy("udp", false)},
		{
			name: "API: UDP port with host loopback disabled", intended: "with `--disable-host-loopback` published UDP ports serve clients of 127.0.0.1",
			theirs: "10.97.0.2 silence", ours: "10.97.0.2 10.0.2.2", observe: publishedBy("udp", true),
		},
		{name: "API: connection outlives its port", observe: outlives},
		{
			name: "API: refused", intended: "a client of a published port at which nobody listens in the container is refused",
			theirs: "end", ours: "ECONNRESET", observe: nobodyListens,
		},
		{
			name: "API: silent client", intended: "a client of the API socket that is silent holds nothing up",
			theirs: "silence", ours: "10.97.0.1",
			observe: func(t *testing.T, s subject) string {
				w, c, api := attachtest.Open(t), attachtest.NewContainer(t), filepath.Join(t.TempDir(), "api")
				s.start(t, c, nil, "-c", "-a", api, "PID", "tap0")
				_, udp := greet(t, w.Peer, netip.AddrPortFrom(attachtest.Families()[0].PeerAddr, 0))
				if got := visit(t, c, "udp", udp); got != "10.97.0.1" {
					t.Fatalf("without a client: %s", got)
				}
				silent, err := net.Dial("unix", api)
				if err != nil {
					t.Fatal(err)
				}
				defer silent.Close()
				return visit(t, c, "udp", udp)
			},
		},
		{
			name: "API: socket", intended: "the API socket has mode 0600, whatever the umask",
			theirs: "umask 0022: srwxr-xr-x", ours: "umask 0022: srw-------",
			observe: func(t *testing.T, s subject) string {
				c, api := attachtest.NewContainer(t), filepath.Join(t.TempDir(), "api")
				s.start(t, c, nil, "-c", "-a", api, "PID", "tap0")
				w := attachtest.Open(t)
				return "umask " + strings.TrimSpace(w.Host.Exec(t, "sh", "-c", "umask")) + ": " + strings.Fields(w.Host.Exec(t, "ls", "-l", api))[0]
			},
		},
	}
	conversation := func(name, intended, theirs, ours string, requests ...string) scenario {
		return scenario{name: "API: " + name, intended: intended, theirs: theirs, ours: ours, observe: func(t *testing.T, s subject) string {
			c, api := attachtest.NewContainer(t), filepath.Join(t.TempDir(), "api")
			s.start(t, c, nil, "-c", "-a", api, "PID", "tap0")
			var replies []string
			for _, r := range requests {
				replies = append(replies, request(t, api, r))
			}
			return strings.Join(replies, "\n")
		}}
	}
	good := fmt.Sprintf(add, `"proto":"tcp","host_addr":"127.0.0.1","host_port":18080,"guest_addr":"10.0.2.100","guest_port":80`)
	list = append(list,
		conversation("add and remove", "", "", "", good, fmt.Sprintf(add, `"proto":"udp","host_port":18080,"guest_port":80`)+"\n",
			`{"execute":"remove_hostfwd","arguments":{"id":1}}`, `{"execute":"remove_hostfwd","arguments":{"id":2}}`, good,
			fmt.Sprintf(add, `"proto":"tcp","host_addr":"","guest_addr":"","host_port":18081,"guest_port":81,"extra":{}`)),
		conversation("list", "list_hostfwd answers as the manual says and as slirp4netns does, at once",
			`{"return":{"id":1}}`+"\n"+`{"entries":[{"id":1,"proto":"tcp","host_addr":"127.0.0.1","host_port":18080,"guest_addr":"10.0.2.100","guest_port":80}]}`,
			`{"return":{"id":1}}`+"\n"+`{"return":{"entries":[{"id":1,"proto":"tcp","host_addr":"127.0.0.1","host_port":18080,"guest_addr":"10.0.2.100","guest_port":80}]},`+
				`"entries":[{"id":1,"proto":"tcp","host_addr":"127.0.0.1","host_port":18080,"guest_addr":"10.0.2.100","guest_port":80}]}`,
			good, `{"execute":"list_hostfwd"}`),
		conversation("host port 0", "`host_port` 0 lets the kernel choose, and the reply tells which",
			`{"error":{"desc":"bad request: add_hostfwd: bad arguments.host_port"}}`, `{"return":{"id":1,"host_port":PORT}}`,
			fmt.Sprintf(add, `"proto":"tcp","host_port":0,"guest_port":80`)),
		conversation("IPv6", "`host_addr` and `guest_addr` may be IPv6",
			`{"error":{"desc":"bad request: add_hostfwd: bad arguments.host_addr"}}`, `{"return":{"id":1}}`,
			fmt.Sprintf(add, `"proto":"tcp","host_addr":"::1","host_port":18080,"guest_port":80`)),
		conversation("port too large", "`host_port` and `guest_port` must be ports",
			`{"return":{"id":1}}`, `{"error":{"desc":"bad request: add_hostfwd: bad arguments.host_port"}}`,
			fmt.Sprintf(add, `"proto":"tcp","host_port":99999,"guest_port":80`)),
	)
	for name, bad := range map[string]string{
		"nothing": "", "no JSON": "list_hostfwd", "half of JSON": `{"execute":`, "array": "[]", "null": "null", "string": `"list_hostfwd"`,
		"empty object": "{}", "number as command": `{"execute":1}`, "unknown command": `{"execute":"add"}`, "other case": `{"EXECUTE":"list_hostfwd"}`,
		"unknown protocol": fmt.Sprintf(add, `"proto":"sctp","host_port":1,"guest_port":1`),
		"name as address":  fmt.Sprintf(add, `"proto":"tcp","host_addr":"localhost","host_port":18080,"guest_port":80`),
		"no host port":     fmt.Sprintf(add, `"proto":"tcp","guest_port":80`),
		"text as port":     fmt.Sprintf(add, `"proto":"tcp","host_port":"18080","guest_port":80`),
		"bad guest":        fmt.Sprintf(add, `"proto":"tcp","host_port":18080,"guest_addr":"guest","guest_port":80`),
		"no guest port":    fmt.Sprintf(add, `"proto":"tcp","host_port":18080`),
		"guest port 0":     fmt.Sprintf(add, `"proto":"tcp","host_port":18080,"guest_port":0`),
		"remove nothing":   `{"execute":"remove_hostfwd"}`, "remove text": `{"execute":"remove_hostfwd","arguments":{"id":"1"}}`,
		"too large": `{"execute":"` + strings.Repeat("x", 5000) + `"}`,
	} {
		list = append(list, conversation(name, "", "", "", bad, "{}"))
	}
	for name, bad := range map[string]string{
		"address of another": fmt.Sprintf(add, `"proto":"tcp","host_addr":"192.0.2.1","host_port":18080,"guest_port":80`),
		"privileged port":    fmt.Sprintf(add, `"proto":"udp","host_port":81,"guest_port":80`),
		"port in use":        good + good, // only the first counts
		"remove unknown":     `{"execute":"remove_hostfwd","arguments":{"id":77}}`,
	} {
		sc := conversation(name, "", "", "", good, bad)
		observe := sc.observe
		// The cause is what ours has more.
		sc.observe = func(t *testing.T, s subject) string {
			return regexp.MustCompile(`(failed|bad arguments\.id): .*"}}`).ReplaceAllString(observe(t, s), `$1"}}`)
		}
		list = append(list, sc)
	}
	return list
}

// request sends a request as Podman does, and returns the reply, in which PORT stands
// for a port that the kernel chose.
func request(t *testing.T, api, what string) string {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: api, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(attachtest.Patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte(what)) // one that is too large may be cut off
	_ = c.CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil && len(b) == 0 {
		return err.Error()
	}
	return regexp.MustCompile(`("id":1,"host_port":)\d{5}}}$`).ReplaceAllString(string(b), `${1}PORT}}`)
}

// publishedBy publishes a port of one who greets in the container, and visits it from the
// peer and from the host's loopback.
func publishedBy(network string, noLoopback bool) func(*testing.T, subject) string {
	return func(t *testing.T, s subject) string {
		w, c, api := attachtest.Open(t), attachtest.NewContainer(t), filepath.Join(t.TempDir(), "api")
		args := []string{"-c", "-a", api, "PID", "tap0"}
		if noLoopback {
			args = append(args, "--disable-host-loopback")
		}
		s.start(t, c, nil, args...)
		tcp, udp := greet(t, c, netip.MustParseAddrPort("0.0.0.0:8000"))
		if tcp.Port() != udp.Port() {
			t.Fatal("two ports")
		}
		if got := request(t, api, fmt.Sprintf(`{"execute":"add_hostfwd","arguments":{"proto":"%s","host_port":18088,"guest_port":8000}}`, network)); got != `{"return":{"id":1}}` {
			t.Fatal(got)
		}
		host := attachtest.Families()[0].HostAddr
		loopback := visit(t, w.Host, network, netip.MustParseAddrPort("127.0.0.1:18088"))
		return visit(t, w.Peer, network, netip.AddrPortFrom(host, 18088)) + " " + loopback
	}
}

// outlives removes a port under a connection.
func outlives(t *testing.T, s subject) string {
	w, c, api := attachtest.Open(t), attachtest.NewContainer(t), filepath.Join(t.TempDir(), "api")
	s.start(t, c, nil, "-c", "-a", api, "PID", "tap0")
	l := c.Listen(t, netip.MustParseAddrPort("10.0.2.100:8000"))
	if err := l.SetDeadline(time.Now().Add(attachtest.Patience)); err != nil {
		t.Fatal(err)
	}
	if got := request(t, api, `{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":18088,"guest_port":8000}}`); got != `{"return":{"id":1}}` {
		t.Fatal(got)
	}
	to := netip.AddrPortFrom(attachtest.Families()[0].HostAddr, 18088)
	client, err := w.Peer.Dial(t, "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		_, cerr := client.Read(make([]byte, 1))
		t.Fatalf("%v; the client: %v", err, cerr)
	}
	defer server.Close()
	removed := request(t, api, `{"execute":"remove_hostfwd","arguments":{"id":1}}`)
	again := visit(t, w.Peer, "tcp", to)
	fmt.Fprint(client, "still there")
	client.Close()
	b, err := io.ReadAll(server)
	return fmt.Sprintf("%s %s %s %v", removed, again, b, err)
}

// nobodyListens visits a port that leads to nobody.
func nobodyListens(t *testing.T, s subject) string {
	w, c, api := attachtest.Open(t), attachtest.NewContainer(t), filepath.Join(t.TempDir(), "api")
	s.start(t, c, nil, "-c", "-a", api, "PID", "tap0")
	if got := request(t, api, `{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":18088,"guest_port":8000}}`); got != `{"return":{"id":1}}` {
		t.Fatal(got)
	}
	got := visit(t, w.Peer, "tcp", netip.AddrPortFrom(attachtest.Families()[0].HostAddr, 18088))
	switch {
	case got == "":
		return "end"
	case strings.Contains(got, "reset"):
		return "ECONNRESET"
	}
	return got
}
