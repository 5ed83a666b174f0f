// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// cniConf is what containers.conf has for the CNI backend of Podman 4: the plugins, the
// networks and the one by default.
const cniConf = `
[network]
network_backend = "cni"
cni_plugin_dirs = [%q, "/usr/lib/cni"]
network_config_dir = %q
default_network = "ours"
`

// cniNetwork is a network of ours: its name, subnet and more keys.
const cniNetwork = `{
  "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "name": %q,
  "plugins": [{"type": "slipway-cni", "subnet": %q, %s
    "capabilities": {"portMappings": true, "ips": true, "mac": true, "dns": true, "aliases": true, "bandwidth": true}}]
}`

// pluginDir returns a directory with the built plugin and, beside it, the program. It is
// that of the program, which goes with the tests.
var pluginDir = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(filepath.Dir(os.Getenv(binaryVar)), "cni")
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := errors.Join(os.MkdirAll(d, 0o755), os.Chmod(d, 0o755)); err != nil {
			return "", err
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "slipway-cni"), "./cni-plugin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build slipway-cni: %w: %s", err, out)
	}
	return dir, os.Symlink(os.Getenv(binaryVar), filepath.Join(dir, "slipway"))
})

// newCNIPodman makes a machine whose Podman has CNI networks: root's, or that of the
// plain user, which runs plugins in a network namespace behind slirp4netns.
func newCNIPodman(t *testing.T, image string, root bool) *podman {
	t.Helper()
	binary(t) // beside which the plugin is
	plugins, err := pluginDir()
	if err != nil {
		t.Fatal(err)
	}
	return newPodmanAs(t, subject{true, oursAs(t, "slirp4netns")}, image, root, func(dir string) string {
		nets := filepath.Join(dir, "net.d")
		if err := os.Mkdir(nets, 0o777); err != nil {
			t.Fatal(err)
		}
		for _, n := range [][3]string{
			{"ours", "10.50.0.0/24", ""}, {"other", "10.51.0.0/24", ""},
			{"direct", "10.52.0.0/24", `"outside": "broker", "allowHostLoopback": true, "ipv6": false,`},
		} {
			name := n[0]
			text := fmt.Sprintf(cniNetwork, name, n[1], n[2])
			if err := os.WriteFile(filepath.Join(nets, name+".conflist"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return fmt.Sprintf(cniConf, plugins, nets)
	})
}

// TestPodmanCNI has Podman 4, which knows nothing of us but the plugin's name, run
// containers in CNI networks.
func TestPodmanCNI(t *testing.T) {
	binary(t)
	attachtest.NeedTools(t, "podman", "crun", "conmon", "busybox", "socat", "ldd", "pgrep")
	image := boxArchive(t)
	for name, root := range map[string]bool{"root": true, "plain user": false} {
		t.Run(name, func(t *testing.T) {
			p := newCNIPodman(t, image, root)
			const client = "10.97.0.2"
			peer := serveHTTP(t, p.Peer, attachtest.Families()[0].PeerAddr, []byte(hello))
			t.Run("run", func(t *testing.T) {
				got := p.exec(t, "podman", "run", "--rm", "--network", "ours", boxImage, "sh", "-c",
					"ip -o -4 addr show eth0; wget -q -O - http://"+peer+"; grep nameserver /etc/resolv.conf | head -1")
				if !strings.Contains(got, "10.50.0.100/24") || !strings.Contains(got, hello) || !strings.Contains(got, "10.50.0.3") {
					t.Errorf("seen: %s", got)
				}
				p.expectNoAttachment(t)
			})
			t.Run("ports, addresses and two networks", func(t *testing.T) {
				c := p.start(t, "podman", "run", "--rm", "--name", "two", "-p", "18080:8080",
					"--network", "ours:ip=10.50.0.7,mac=02:00:00:00:00:07,alias=db", "--network", "other",
					boxImage, "sh", "-c", "ip -o addr; "+addressServer)
				var before strings.Builder
				for strings.Count(before.String(), "AF=2") < 2 { // both servers
					line, err := c.Out.ReadString('\n')
					before.WriteString(line)
					if err != nil {
						t.Fatalf("the container ended: %s", &before)
					}
				}
				for _, want := range []string{"10.50.0.7/24", "10.51.0.100/24"} {
					if !strings.Contains(before.String(), want) {
						t.Errorf("the container has not %s: %s", want, &before)
					}
				}
				who := visitTCP(t, p.Peer, netip.AddrPortFrom(attachtest.Families()[0].HostAddr, 18080))
				if root && who != client {
					t.Errorf("the client is %s, want %s", who, client)
				}
				if who == "" {
					t.Error("the port is not published")
				}
				p.exec(t, "podman", "rm", "--force", "--time", "0", "two")
				p.expectNoAttachment(t)
			})
			t.Run("restart", func(t *testing.T) {
				p.exec(t, "podman", "run", "-d", "--name", "again", "--network", "ours", boxImage, "sleep", "1000")
				for range 2 {
					p.exec(t, "podman", "restart", "--time", "0", "again")
					if got := p.exec(t, "podman", "exec", "again", "wget", "-q", "-O", "-", "http://"+peer); got != hello {
						t.Errorf("after a restart: %s", got)
					}
				}
				p.exec(t, "podman", "stop", "--time", "0", "again")
				p.expectNoAttachment(t)
				p.exec(t, "podman", "rm", "--force", "--time", "0", "again")
			})
		})
	}
}

// TestPodmanCNIBroker has a broker start the helper where Podman itself is. By way of
// Podman's own network helper, neither the host's loopback nor its address would be seen.
func TestPodmanCNIBroker(t *testing.T) {
	binary(t)
	attachtest.NeedTools(t, "podman", "crun", "conmon", "busybox", "socat", "ldd", "pgrep")
	p := newCNIPodman(t, boxArchive(t), false)
	binary(t) // beside which the plugin is
	plugins, err := pluginDir()
	if err != nil {
		t.Fatal(err)
	}
	f := attachtest.Families()[0]
	out, code := p.Host.Run(t, p.asUser("podman", "run", "--rm", "--network", "direct", boxImage, "true")...)
	if code == 0 || !strings.Contains(out, "slipway-cni broker") {
		t.Errorf("without a broker: exit code %d, %s", code, out)
	}
	broker := p.start(t, filepath.Join(plugins, "slipway-cni"), "broker")
	broker.WaitLine(t, "msg=ready")
	host := netip.MustParseAddrPort(serveHTTP(t, p.Host, f.Loopback, []byte(hello)))
	peer := p.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
	c := p.start(t, "podman", "run", "--rm", "--name", "direct", "--network", "direct", "-p", "18090:8080", boxImage, "sh", "-c",
		fmt.Sprintf("wget -q -O - http://10.52.0.2:%d; socat -u TCP:%s -; %s", host.Port(), peer.Addr(), addressServer))
	c.WaitLine(t, strings.TrimSpace(hello))
	conn, err := peer.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if who := netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr(); who != f.HostAddr {
		t.Errorf("the container is seen as %s, want the host's %s", who, f.HostAddr)
	}
	conn.Close()
	for range 2 {
		c.WaitLine(t, "AF=2")
	}
	if who := visitTCP(t, p.Peer, netip.AddrPortFrom(f.HostAddr, 18090)); who == "" {
		t.Error("the port is not published")
	}
	p.exec(t, "podman", "rm", "--force", "--time", "0", "direct")
	p.expectNoAttachment(t)
	// A container whose helper nobody stops takes it along.
	p.exec(t, "podman", "run", "-d", "--name", "alone", "--network", "direct", boxImage, "sleep", "1000")
	p.exec(t, "podman", "kill", "alone")
	p.expectNoAttachment(t)
}

// expectNoAttachment waits until neither a helper of the plugin's nor its state is left.
func (p *podman) expectNoAttachment(t *testing.T) {
	t.Helper()
	const look = `pgrep -fa "^slipway attach"; find "$1"/run/slipway-cni /run/slipway-cni -type f 2>/dev/null`
	for end := time.Now().Add(attachtest.Patience); ; {
		out, _ := p.Host.Run(t, "sh", "-c", look, "sh", p.dir)
		if out == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left behind: %s", out)
		}
	}
}
