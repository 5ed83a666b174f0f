// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// A podmanScenario is something that a user of Podman or Buildah sees, whichever
// slirp4netns it is.
type podmanScenario struct {
	name    string
	observe func(*testing.T, *podman) string
	want    string
}

// hello is what servers outside have to say.
const hello = "hello from outside\n"

// TestPodman has Podman and Buildah, which know nothing of us, run containers of a
// plain user with the real slirp4netns and with ours.
func TestPodman(t *testing.T) {
	attachtest.NeedTools(t, "podman", "buildah", "crun", "conmon", "slirp4netns", "busybox", "socat", "ldd", "pgrep")
	theirs, err := exec.LookPath("slirp4netns")
	if err != nil {
		t.Fatal(err)
	}
	image := boxArchive(t)
	for name, s := range map[string]subject{"real": {false, theirs}, "ours": {true, oursAs(t, "slirp4netns")}} {
		t.Run(name, func(t *testing.T) {
			p := newPodman(t, s, image)
			for _, sc := range podmanScenarios() {
				t.Run(sc.name, func(t *testing.T) {
					if got := sc.observe(t, p); got != sc.want {
						t.Errorf("seen:\n%s\nwant:\n%s", got, sc.want)
					}
					p.expectNothing(t)
				})
			}
		})
	}
}

func podmanScenarios() []podmanScenario {
	const client, gateway, container = "10.97.0.2", "10.0.2.2", "10.0.2.100"
	return []podmanScenario{
		{"info", podmanInfo, "slirp4netns version"},
		{"run", podmanRun, hello + "wget: can't connect to remote host (10.0.2.2): Network is unreachable\nshort.example\ttext = \"by udp\"\n"},
		{"options", podmanOptions, "10.9.0.100/24 1500 10.97.0.9 10.97.0.9\n" + hello + hello + hello},
		{"ports by slirp4netns", podmanPorts("slirp4netns"), fmt.Sprintln(client, client, gateway)},
		{"ports by rootlesskit", podmanPorts("rootlesskit"), fmt.Sprintln(container, container, container)},
		{"pod", podmanPod, "127.0.0.1 " + client},
		{"podman build", podmanBuild("podman", "build"), hello + hello},
		{"buildah bud", podmanBuild("buildah", "bud"), hello + hello},
		{"buildah run", buildahRun, hello + hello},
	}
}

// podmanInfo is what Podman has found out about it.
func podmanInfo(t *testing.T, p *podman) string {
	out := p.exec(t, "podman", "info", "--format", "{{.Host.Slirp4NetNS.Executable}} {{.Host.Slirp4NetNS.Version}}")
	version, found := strings.CutPrefix(out, p.s.path+" ")
	if ours := strings.Contains(version, "slipway"); !found || ours != p.s.ours {
		t.Errorf("Podman says %q", out)
	}
	return strings.Join(strings.Fields(version)[:2], " ")
}

// fetchFrom runs a command of the plain user that fetches from the neighbour, and sees
// meanwhile what networks the container. It returns what the command wrote.
func (p *podman) fetchFrom(t *testing.T, l *net.TCPListener, argv ...string) string {
	t.Helper()
	proc := p.start(t, argv...)
	if err := l.SetDeadline(time.Now().Add(attachtest.Patience)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		proc.Kill()
		t.Fatalf("%q fetches nothing: %v", argv, err)
	}
	defer c.Close()
	p.expectHelper(t)
	if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\n%s", hello)
	c.Close()
	out, err := io.ReadAll(proc.Out)
	if err != nil {
		t.Fatal(err)
	}
	if code := proc.Wait(t); code != 0 {
		t.Fatalf("%q: exit code %d: %s", argv, code, out)
	}
	return string(out)
}

// outside returns servers: a neighbour for fetchFrom, and one at the host's loopback,
// with the command that fetches from both and prints it.
func outside(t *testing.T, p *podman, gateway string) (peer *net.TCPListener, fetch string) {
	t.Helper()
	f := attachtest.Families()[0]
	peer = p.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
	host := netip.MustParseAddrPort(serveHTTP(t, p.Host, f.Loopback, []byte(hello)))
	return peer, fmt.Sprintf("wget -q -O - http://%s; wget -q -O - http://%s:%d 2>&1", peer.Addr(), gateway, host.Port())
}

// podmanRun is a container by default, for which the host's loopback is out of reach.
func podmanRun(t *testing.T, p *podman) string {
	peer, fetch := outside(t, p, "10.0.2.2")
	p.Peer.ServeDNS(t, netip.AddrPortFrom(attachtest.Families()[0].PeerAddr, 53))
	return p.fetchFrom(t, peer, "podman", "run", "--rm", "--network", "slirp4netns", boxImage,
		"sh", "-c", fetch+"; nslookup -type=txt short.example | grep text")
}

// podmanOptions has all options at once.
func podmanOptions(t *testing.T, p *podman) string {
	v4, v6 := attachtest.Families()[0], attachtest.Families()[1]
	p.Host.Exec(t, "ip", "addr", "add", "10.97.0.9/24", "dev", "host0")
	tcp, udp := greet(t, p.Peer, netip.AddrPortFrom(v4.PeerAddr, 0))
	peer, fetch := outside(t, p, "10.9.0.2")
	peer6 := "http://" + serveHTTP(t, p.Peer, v6.PeerAddr, []byte(hello))
	script := strings.Join([]string{
		`set -- $(ip -o -4 addr show tap0)`,
		`echo $4 $(cat /sys/class/net/tap0/mtu) $(socat -u TCP:` + tcp.String() + ` -)` +
			` $(socat -t 0 UDP:` + udp.String() + ` SYSTEM:"echo hello; head -c 9 >&2" 2>&1)`,
		fetch,
		`until ip -6 route | grep -q ^default; do usleep 10000; done`,
		`wget -q -O - ` + peer6,
	}, "\n")
	const network = "slirp4netns:cidr=10.9.0.0/24,mtu=1500,enable_ipv6=true,allow_host_loopback=true,outbound_addr=10.97.0.9"
	return p.fetchFrom(t, peer, "podman", "run", "--rm", "--network", network, boxImage, "sh", "-c", script)
}

// addressServer tells TCP clients of port 8080 and UDP clients of port 8081 their
// address. It writes a line for each when it serves.
const addressServer = `socat -d -d UDP-RECVFROM:8081,fork SYSTEM:'echo $SOCAT_PEERADDR' &
exec socat -d -d TCP-LISTEN:8080,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR'`

// podmanPorts publishes ports by that handler: whom the container sees in a client by
// TCP, one by UDP, and one at the host's loopback.
func podmanPorts(handler string) func(*testing.T, *podman) string {
	return func(t *testing.T, p *podman) string {
		f := attachtest.Families()[0]
		c := p.start(t, "podman", "run", "--rm", "--name", "ports", "--network", "slirp4netns:port_handler="+handler,
			"-p", "18080:8080", "-p", f.HostAddr.String()+":18081:8081/udp", boxImage, "sh", "-c", addressServer)
		for range 2 {
			c.WaitLine(t, "AF=2")
		}
		p.expectHelper(t)
		tcp := visitTCP(t, p.Peer, netip.AddrPortFrom(f.HostAddr, 18080))
		udp := visitUDP(t, p.Peer, netip.AddrPortFrom(f.HostAddr, 18081))
		loop := visitTCP(t, p.Host, netip.AddrPortFrom(f.Loopback, 18080))
		p.exec(t, "podman", "rm", "--force", "--time", "0", "ports")
		return fmt.Sprintln(tcp, udp, loop)
	}
}

func visitTCP(t *testing.T, from *attachtest.Place, to netip.AddrPort) string {
	t.Helper()
	return strings.TrimSpace(visit(t, from, "tcp", to))
}

// visitUDP asks again when nothing comes: nobody says when a datagram is lost.
func visitUDP(t *testing.T, from *attachtest.Place, to netip.AddrPort) string {
	t.Helper()
	for end := time.Now().Add(attachtest.Patience); ; {
		got := strings.TrimSpace(visit(t, from, "udp", to))
		if got != "silence" || time.Now().After(end) {
			return got
		}
	}
}

// podmanPod has two containers share a network: whom the server of the one sees in
// the other, and in a client of the pod's port.
func podmanPod(t *testing.T, p *podman) string {
	p.exec(t, "podman", "pod", "create", "--name", "pod", "--network", "slirp4netns:port_handler=slirp4netns",
		"--publish", "18080:8080", "--infra-image", boxImage, "--infra-command", "/bin/sleep 600")
	server := p.start(t, "podman", "run", "--rm", "--pod", "pod", boxImage, "sh", "-c", addressServer)
	for range 2 {
		server.WaitLine(t, "AF=2")
	}
	p.expectHelper(t)
	inside := p.exec(t, "podman", "run", "--rm", "--pod", "pod", boxImage, "socat", "-u", "TCP:127.0.0.1:8080", "-")
	client := visitTCP(t, p.Peer, netip.AddrPortFrom(attachtest.Families()[0].HostAddr, 18080))
	p.exec(t, "podman", "pod", "rm", "--force", "--time", "0", "pod")
	return strings.TrimSpace(inside) + " " + client
}

// podmanBuild builds an image by a command that fetches from the neighbour and from
// the host, both of which a build may reach.
func podmanBuild(command ...string) func(*testing.T, *podman) string {
	return func(t *testing.T, p *podman) string {
		peer, fetch := outside(t, p, "10.0.2.2")
		file := p.write(t, "Containerfile", "FROM "+boxImage+"\nRUN ("+fetch+") >/fetched\n")
		build := append(p.byPath(command...), "--no-cache", "--quiet", "--tag", "localhost/built", "--file", file, t.TempDir())
		p.fetchFrom(t, peer, build...)
		return p.exec(t, "podman", "run", "--rm", "--network", "none", "localhost/built", "cat", "/fetched")
	}
}

// buildahRun fetches with a working container of Buildah's.
func buildahRun(t *testing.T, p *podman) string {
	peer, fetch := outside(t, p, "10.0.2.2")
	p.exec(t, "buildah", "from", "--name", "working", boxImage)
	out := p.fetchFrom(t, peer, p.byPath("buildah", "run", "working", "sh", "-c", fetch)...)
	p.exec(t, "buildah", "rm", "working")
	return out
}
