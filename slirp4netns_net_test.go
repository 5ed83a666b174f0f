// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	wire "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// silence is how long nothing must come to be called silence.
const silence = 300 * time.Millisecond

// greet answers each connection with the address that it comes from, and each datagram
// likewise.
func greet(t *testing.T, p *attachtest.Place, addr netip.AddrPort) (tcp, udp netip.AddrPort) {
	t.Helper()
	l, c := p.Listen(t, addr), p.ListenPacket(t, addr)
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
	go func() {
		buf := make([]byte, 1500)
		for {
			_, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort([]byte(from.Addr().Unmap().String()), from)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String()), netip.MustParseAddrPort(c.LocalAddr().String())
}

// visit is what a client somewhere gets of one who greets.
func visit(t *testing.T, p *attachtest.Place, network string, to netip.AddrPort) string {
	t.Helper()
	c, err := p.Dial(t, network, to)
	if err != nil {
		if errno, ok := errors.AsType[unix.Errno](err); ok {
			return unix.ErrnoName(errno)
		}
		return err.Error()
	}
	defer c.Close()
	if network == "tcp" {
		b, err := io.ReadAll(c)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "silence"
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return unix.ErrnoName(errno)
	}
	return string(buf[:n])
}

// netScenarios are about traffic of the container's.
func netScenarios() []scenario {
	peer, loop := attachtest.Families()[0].PeerAddr, attachtest.Families()[0].Loopback
	gateway := netip.MustParseAddr("10.0.2.2")
	// visits goes to the peer, to the host's loopback by the gateway, and to a port
	// at which nobody listens.
	visits := func(gateway netip.Addr, prepare string, args ...string) func(*testing.T, subject) string {
		return func(t *testing.T, s subject) string {
			w, c := attachtest.Open(t), attachtest.NewContainer(t)
			if prepare != "" {
				c.Exec(t, "sh", "-c", prepare)
			}
			s.start(t, c, nil, args...)
			if prepare != "" { // RootlessKit's child does this
				c.Exec(t, "sh", "-c", "ip link set lo up; ip link set tap0 mtu 65520; ip addr add 10.0.2.100/24 dev tap0; ip route add default via 10.0.2.2")
			}
			tcp, udp := greet(t, w.Peer, netip.AddrPortFrom(peer, 0))
			tcpLoop, udpLoop := greet(t, w.Host, netip.AddrPortFrom(loop, 0))
			nobody := netip.AddrPortFrom(peer, 1)
			return fmt.Sprintln(
				visit(t, c, "tcp", tcp), visit(t, c, "udp", udp),
				visit(t, c, "tcp", nobody), visit(t, c, "udp", nobody),
				visit(t, c, "tcp", netip.AddrPortFrom(gateway, tcpLoop.Port())), visit(t, c, "udp", netip.AddrPortFrom(gateway, udpLoop.Port())),
				ping(t, c, gateway),
			)
		}
	}
	return []scenario{
		{name: "traffic", observe: visits(gateway, "", "-c", "PID", "tap0")},
		{name: "traffic of another network", observe: visits(netip.MustParseAddr("192.168.64.2"), "", "-c", "--cidr=192.168.64.0/18", "PID", "tap0")},
		{name: "traffic at MTU 65520", observe: visits(gateway, "", "-c", "-m", "65520", "PID", "tap0")},
		{name: "traffic as RootlessKit has it", observe: visits(gateway, "ip tuntap add name tap0 mode tap && ip link set tap0 up",
			"--mtu", "65520", "--enable-sandbox", "--enable-seccomp", "PID", "tap0")},
		{name: "host loopback disabled", observe: visits(gateway, "", "-c", "--disable-host-loopback", "PID", "tap0")},
		{name: "host loopback disabled, old name", observe: visits(gateway, "", "-c", "--no-host-loopback", "PID", "tap0")},
		{name: "outbound address", observe: outbound("10.97.0.9", "--outbound-addr=10.97.0.9")},
		{name: "outbound interface", observe: outbound("10.97.0.9", "--outbound-addr=out0")},
		{name: "outbound address that is not there", observe: func(t *testing.T, s subject) string {
			w, c := attachtest.Open(t), attachtest.NewContainer(t)
			s.start(t, c, nil, "-c", "--outbound-addr=192.0.2.77", "PID", "tap0")
			tcp, _ := greet(t, w.Peer, netip.AddrPortFrom(peer, 0))
			return visit(t, c, "tcp", tcp)
		}},
		{
			name: "IPv6", intended: "fd00::100 is there from the start",
			theirs: "SLAAC fd97::1 fd97::1 ECONNREFUSED ::1", ours: "fd00::100 fd97::1 fd97::1 ECONNREFUSED ::1",
			observe: ipv6(),
		},
		{
			name: "IPv6 host loopback disabled", observe: func(t *testing.T, s subject) string {
				c := attachtest.NewContainer(t)
				s.start(t, c, nil, "-c", "-6", "--disable-host-loopback", "PID", "tap0")
				address6(t, c)
				return visit(t, c, "tcp", netip.MustParseAddrPort("[fd00::2]:9"))
			},
		},
		{
			name: "IPv6 source by interface", intended: "`--outbound-addr6` takes an interface by itself",
			theirs: "exit status 1", ours: "fd97::9",
			observe: func(t *testing.T, s subject) string {
				args := []string{"-c", "-6", "--outbound-addr6=out0", "PID", "tap0"}
				w, c := attachtest.Open(t), attachtest.NewContainer(t)
				alias(t, w, "fd97::9/64")
				if !s.ours {
					return fmt.Sprintf("exit status %d", s.run(t, c, args...).code)
				}
				s.start(t, c, nil, args...)
				tcp, _ := greet(t, w.Peer, netip.AddrPortFrom(attachtest.Families()[1].PeerAddr, 0))
				return visit(t, c, "tcp", tcp)
			},
		},
		{name: "DNS", observe: dns("")},
		{name: "DNS of another network", observe: dns("--cidr=10.11.12.0/24")},
		{name: "DNS disabled", observe: dns("--disable-dns")},
		{name: "DNS with host loopback disabled", observe: dns("--disable-host-loopback")},
	}
}

// alias gives the host an interface out0 with an address, until the test ends.
func alias(t *testing.T, w *attachtest.World, addr string) {
	t.Helper()
	w.Host.Exec(t, "sh", "-c", "ip link add out0 type veth peer name out1 && ip link set out0 up && ip addr add "+addr+" dev out0 nodad noprefixroute")
	back := strings.Split(addr, "/")[0]
	w.Peer.Exec(t, "ip", "route", "add", back, "via", map[bool]string{true: "10.97.0.1", false: "fd97::1"}[strings.Contains(addr, ".")])
	t.Cleanup(func() {
		w.Host.Run(t, "ip", "link", "del", "out0")
		w.Peer.Run(t, "ip", "route", "del", back)
	})
}

func outbound(addr string, flag string) func(*testing.T, subject) string {
	return func(t *testing.T, s subject) string {
		w, c := attachtest.Open(t), attachtest.NewContainer(t)
		alias(t, w, addr+"/32")
		s.start(t, c, nil, "-c", flag, "PID", "tap0")
		tcp, udp := greet(t, w.Peer, netip.AddrPortFrom(attachtest.Families()[0].PeerAddr, 0))
		return visit(t, c, "tcp", tcp) + " " + visit(t, c, "udp", udp)
	}
}

func ping(t *testing.T, c *attachtest.Place, to netip.Addr) string {
	t.Helper()
	_, code := c.Run(t, "ping", "-n", "-c1", "-W5", to.String())
	return fmt.Sprint("ping ", code)
}

// address6 waits for the container's global address and returns it.
func address6(t *testing.T, c *attachtest.Place) netip.Addr {
	t.Helper()
	for end := time.Now().Add(attachtest.Patience); time.Now().Before(end); {
		for _, word := range strings.Fields(c.Exec(t, "ip", "-6", "-o", "addr", "show", "dev", "tap0", "scope", "global", "-tentative")) {
			if p, err := netip.ParsePrefix(word); err == nil {
				return p.Addr()
			}
		}
	}
	t.Fatal("the container gets no IPv6 address")
	return netip.Addr{}
}

func ipv6() func(*testing.T, subject) string {
	return func(t *testing.T, s subject) string {
		w, c := attachtest.Open(t), attachtest.NewContainer(t)
		f := attachtest.Families()[1]
		s.start(t, c, nil, "-c", "-6", "PID", "tap0")
		name := "SLAAC"
		if a := address6(t, c); a.String() == "fd00::100" {
			name = a.String()
		}
		tcp, udp := greet(t, w.Peer, netip.AddrPortFrom(f.PeerAddr, 0))
		tcpLoop, _ := greet(t, w.Host, netip.AddrPortFrom(f.Loopback, 0))
		return fmt.Sprint(name, " ", visit(t, c, "tcp", tcp), " ", visit(t, c, "udp", udp), " ", visit(t, c, "tcp", netip.AddrPortFrom(f.PeerAddr, 1)), " ",
			visit(t, c, "tcp", netip.AddrPortFrom(netip.MustParseAddr("fd00::2"), tcpLoop.Port())))
	}
}

// dns asks at the resolver's address, and at another port of it. The host has the peer
// as its resolver, and sends what is for 10.0.2.3 itself nowhere.
func dns(flag string) func(*testing.T, subject) string {
	return func(t *testing.T, s subject) string {
		w, c := attachtest.Open(t), attachtest.NewContainer(t)
		peer := attachtest.Families()[0].PeerAddr
		w.Host.Exec(t, "ip", "route", "add", "10.0.2.3", "via", peer.String())
		defer w.Host.Run(t, "ip", "route", "del", "10.0.2.3")
		dir := t.TempDir()
		w.Peer.ServeDNS(t, netip.AddrPortFrom(peer, 53))
		if err := os.WriteFile(filepath.Join(dir, "resolv"), []byte("nameserver "+peer.String()+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		server := netip.MustParseAddr("10.0.2.3")
		args := withPID(c, []string{"-c", "PID", "tap0"})
		if flag != "" {
			args = append(args, flag)
		}
		if strings.HasPrefix(flag, "--cidr") {
			server = netip.MustParseAddr("10.11.12.3")
		}
		script := `cd "$1" && shift && mkfifo ready && mount --bind resolv /etc/resolv.conf &&
			exec setpriv --ambient-caps=-all --inh-caps=-all -- "$@" -r 3 3>ready`
		p := w.Host.Start(t, append([]string{"unshare", "--mount", "sh", "-c", script, "sh", dir, s.path}, args...)...)
		defer p.Kill()
		if said := readFIFO(t, filepath.Join(dir, "ready")); said != "1" {
			t.Fatalf("the ready descriptor gave %q", said)
		}
		out := query(t, c, "udp", netip.AddrPortFrom(server, 53))
		if flag == "--disable-dns" {
			return out // by TCP it is the same silence, for longer
		}
		return out + " " + query(t, c, "tcp", netip.AddrPortFrom(server, 53)) + " " + visit(t, c, "tcp", netip.AddrPortFrom(server, 54))
	}
}

// readFIFO reads all that is written to a FIFO, once there is one.
func readFIFO(t *testing.T, path string) string {
	t.Helper()
	for end := time.Now().Add(attachtest.Patience); exists(path) == "gone"; {
		if time.Now().After(end) {
			t.Fatalf("there is no %s", path)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// query asks for a name and returns the text of the answer.
func query(t *testing.T, c *attachtest.Place, network string, to netip.AddrPort) string {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("one.example."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Dial(t, network, to)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	if network == "tcp" {
		b = append(wire.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	wait := attachtest.Patience
	if network == "udp" {
		wait = 10 * silence // it is one datagram, that others may delay
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "silence"
	}
	if err != nil {
		return err.Error()
	}
	answer := buf[:n]
	if network == "tcp" {
		answer = answer[2:]
	}
	if err := m.Unpack(answer); err != nil || len(m.Answers) != 1 {
		return fmt.Sprintf("%d answers, error %v", len(m.Answers), err)
	}
	return m.Answers[0].Body.(*dnsmessage.TXTResource).TXT[0]
}
