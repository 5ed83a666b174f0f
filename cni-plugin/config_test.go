// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// needPlugins ends the test where there are no reference plugins.
func needPlugins(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		found := false
		for _, dir := range plugins {
			found = found || unix.Access(dir+"/"+name, unix.X_OK) == nil
		}
		if !found {
			attachtest.Unavailable(t, "there is no CNI plugin "+name)
		}
	}
}

// TestAsked asks for everything that is asked for an attachment rather than a network,
// in the ways of different runtimes.
func TestAsked(t *testing.T) {
	const mac = "02:00:00:00:00:07"
	for _, tt := range []struct {
		name string
		keys map[string]any
		args [][2]string
		caps map[string]any
		want []string // of the result: MAC, addresses
	}{
		{
			name: "configuration",
			keys: map[string]any{"mac": mac, "address": "10.0.2.9", "address6": "fd00::9", "gateway": "10.0.2.1", "mtu": 1500},
			want: []string{mac, "10.0.2.9/24 10.0.2.1", "fd00::9/64 fd00::2"},
		},
		{
			name: "CNI_ARGS, as Podman and CRI-O have them",
			args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", "pod"}, {"IP", "10.0.2.9"}, {"MAC", mac}},
			want: []string{mac, "10.0.2.9/24 10.0.2.2", "fd00::100/64 fd00::2"},
		},
		{
			name: "ips without a length, as Podman has them",
			caps: map[string]any{"ips": []string{"10.0.2.9", "fd00::9"}, "mac": mac},
			want: []string{mac, "10.0.2.9/24 10.0.2.2", "fd00::9/64 fd00::2"},
		},
		{
			name: "ips of another network",
			caps: map[string]any{"ips": []string{"10.66.1.9/16", "fd66::9"}, "mac": mac},
			want: []string{mac, "10.66.1.9/16 10.66.0.2", "fd66::9/64 fd66::2"},
		},
		{
			name: "the runtime has the last word",
			keys: map[string]any{
				"mac": "02:00:00:00:00:01", "address": "10.0.2.1",
				"args": map[string]any{"cni": map[string]any{"ips": []string{"10.0.2.9"}}},
			},
			args: [][2]string{{"IP", "10.0.2.7"}, {"MAC", "02:00:00:00:00:02"}},
			caps: map[string]any{"mac": mac},
			want: []string{mac, "10.0.2.9/24 10.0.2.2", "fd00::100/64 fd00::2"},
		},
		{
			name: "one family",
			keys: map[string]any{"ipv4": false, "mac": mac, "subnet6": "fd05::/64"},
			want: []string{mac, "fd05::100/64 fd05::2"},
		},
		{
			name: "the other one",
			keys: map[string]any{"ipv6": false, "mac": mac, "subnet": "192.168.9.0/24"},
			want: []string{mac, "192.168.9.100/24 192.168.9.2"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys := map[string]any{"capabilities": map[string]bool{"ips": true, "mac": true}}
			for k, v := range tt.keys {
				keys[k] = v
			}
			n := newNetwork(t, "1.0.0", keys)
			c := attachtest.NewContainer(t)
			a := n.attachment(c, "eth0")
			a.rt.Args = tt.args
			if tt.caps != nil {
				a.rt.CapabilityArgs = tt.caps
			}
			r := a.add(t)
			got := []string{r.Interfaces[0].Mac}
			for _, ip := range r.IPs {
				got = append(got, fmt.Sprintf("%s %s", ip.Address.String(), ip.Gateway))
				if out := c.Exec(t, "ip", "-o", "address", "show", "eth0"); !strings.Contains(out, " "+ip.Address.String()+" ") {
					t.Errorf("the container has not %s: %s", ip.Address.String(), out)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if out := c.Exec(t, "ip", "-o", "link", "show", "eth0"); !strings.Contains(out, mac) {
				t.Errorf("the container has another MAC: %s", out)
			}
			if err := a.check(t); err != nil {
				t.Errorf("CHECK: %v", err)
			}
		})
	}
}

// TestPorts publishes ports of the configuration and of the runtime.
func TestPorts(t *testing.T) {
	w := attachtest.Open(t)
	n := newNetwork(t, "1.0.0", map[string]any{
		"capabilities": map[string]bool{"portMappings": true},
		"portMappings": []map[string]any{{"hostPort": 18080, "containerPort": 80}},
	})
	c := attachtest.NewContainer(t)
	a := n.attachment(c, "eth0")
	a.rt.CapabilityArgs = map[string]any{"portMappings": []map[string]any{
		{"hostPort": 18081, "containerPort": 81, "protocol": "TCP", "hostIP": "127.0.0.1"},
		{"hostPort": 18082, "containerPort": 82, "protocol": "udp"},
		{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}, // the same once more
	}}
	a.add(t)
	f := attachtest.Families()[0]
	for _, p := range []struct {
		from     *attachtest.Place
		to       string
		port     uint16
		expected string
	}{
		{w.Peer, f.HostAddr.String() + ":18080", 80, f.PeerAddr.String()},
		{w.Host, "127.0.0.1:18081", 81, "10.0.2.2"},
	} {
		l := c.Listen(t, netip.AddrPortFrom(netip.IPv4Unspecified(), p.port))
		conn, err := p.from.Dial(t, "tcp", netip.MustParseAddrPort(p.to))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		got, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if who, _, _ := net.SplitHostPort(got.RemoteAddr().String()); who != p.expected {
			t.Errorf("%s: the client is %s, want %s", p.to, who, p.expected)
		}
		if _, err := io.ReadFull(got, make([]byte, 1)); err != nil {
			t.Error(err)
		}
	}
	u := c.ListenPacket(t, netip.AddrPortFrom(netip.IPv4Unspecified(), 82))
	conn, err := w.Peer.Dial(t, "udp", netip.AddrPortFrom(f.HostAddr, 18082))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, from, err := u.ReadFrom(make([]byte, 1)); err != nil || !strings.HasPrefix(from.String(), f.PeerAddr.String()) {
		t.Errorf("the datagram is from %v, %v", from, err)
	}
	// Another network of the container is asked for the same, and leaves it to this one.
	second := n.attachment(c, "eth1")
	second.rt.CapabilityArgs = a.rt.CapabilityArgs
	second.add(t)
	// A port that is taken is an error, and nothing of the attachment is left.
	b := n.attachment(attachtest.NewContainer(t), "eth0")
	_, err = b.tryAdd(t)
	expectCode(t, err, 100, "18080")
	n.expectHelpers(t, 2)
}

// TestBetweenContainers has one container of a network reach what another publishes, at
// the host's address and at the gateway's, which is all that there is between them.
func TestBetweenContainers(t *testing.T) {
	n := newNetwork(t, "1.0.0", map[string]any{
		"capabilities": map[string]bool{"portMappings": true, "aliases": true}, "hostLoopback": []string{"10.0.2.2:18084/tcp"}, "dnsForward": "10.97.0.2",
	})
	a, b := attachtest.NewContainer(t), attachtest.NewContainer(t)
	server := n.attachment(a, "eth0")
	server.rt.CapabilityArgs = map[string]any{"aliases": []string{"db"}, "portMappings": []map[string]any{
		{"hostPort": 18083, "containerPort": 83}, {"hostPort": 18084, "containerPort": 83, "hostIP": "127.0.0.1"},
	}}
	server.add(t)
	r := n.attachment(b, "eth0").add(t)
	l := a.Listen(t, netip.AddrPortFrom(netip.IPv4Unspecified(), 83))
	for _, to := range []string{attachtest.Families()[0].HostAddr.String() + ":18083", "10.0.2.2:18084"} {
		conn, err := b.Dial(t, "tcp", netip.MustParseAddrPort(to))
		if err != nil {
			t.Errorf("%s: %v", to, err)
			continue
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		got, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(got, make([]byte, 1)); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	if out, _ := b.Run(t, "dig", "+short", "+tries=1", "+time=1", "@"+r.DNS.Nameservers[0], "db", "A"); strings.Contains(out, "10.0.2.") {
		t.Errorf("another container's name is %q, where nobody is", out)
	}
}

// TestAliases asks the network's DNS server for names of the container itself, as a list
// and as Podman has them.
func TestAliases(t *testing.T) {
	attachtest.NeedTools(t, "dig")
	for _, aliases := range []any{[]string{"db", "Web.example"}, map[string][]string{"net": {"db", "Web.example"}, "other": {"x"}}} {
		n := newNetwork(t, "1.0.0", map[string]any{"capabilities": map[string]bool{"aliases": true}, "dnsForward": "10.97.0.2"})
		c := attachtest.NewContainer(t)
		a := n.attachment(c, "eth0")
		a.rt.CapabilityArgs = map[string]any{"aliases": aliases}
		r := a.add(t)
		for _, name := range []string{"db", "DB", "web.example"} {
			got := c.Exec(t, "dig", "+short", "@"+r.DNS.Nameservers[0], name, "A", name, "AAAA")
			if got != "10.0.2.100\nfd00::100\n" {
				t.Errorf("%s is %q", name, got)
			}
		}
	}
}

// TestIPAM has plugins for addresses have their say.
func TestIPAM(t *testing.T) {
	needPlugins(t, "host-local", "static")
	t.Run("host-local", func(t *testing.T) {
		leases := shortDir(t)
		t.Cleanup(func() {
			for _, f := range files(t, leases) {
				if strings.Contains(f, "/10.44") || strings.Contains(f, "/fd44") {
					t.Errorf("a lease is left: %s", f)
				}
			}
		})
		n := newNetwork(t, "1.0.0", map[string]any{"ipam": map[string]any{
			"type": "host-local", "dataDir": leases,
			"ranges": [][]map[string]any{{{"subnet": "10.44.0.0/28"}}, {{"subnet": "fd44::/64", "gateway": "fd44::7"}}},
			"routes": []map[string]any{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
		}})
		// It gives them in a row, one of them to the attachment that fails.
		for _, want := range []string{"10.44.0.2/28 10.44.0.1 fd44::1/64 fd44::7", "10.44.0.4/28 10.44.0.1 fd44::3/64 fd44::7"} {
			c := attachtest.NewContainer(t)
			a := n.attachment(c, "eth0")
			r := a.add(t)
			got := fmt.Sprintf("%s %s %s %s", r.IPs[0].Address.String(), r.IPs[0].Gateway, r.IPs[1].Address.String(), r.IPs[1].Gateway)
			if got != want || len(r.Routes) != 2 {
				t.Errorf("addresses %s, routes %v, want %s and two", got, r.Routes, want)
			}
			if err := a.check(t); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			expectTraffic(t, c)
			// What fails gives its address back.
			_, err := n.attachment(c, "lo").tryAdd(t)
			expectCode(t, err, types.ErrInvalidNetworkConfig, "exists already")
		}
	})
	t.Run("static", func(t *testing.T) {
		n := newNetwork(t, "1.0.0", map[string]any{
			"capabilities": map[string]bool{"ips": true},
			"ipam":         map[string]any{"type": "static", "dns": map[string]any{"nameservers": []string{"192.0.2.53"}}},
		})
		c := attachtest.NewContainer(t)
		a := n.attachment(c, "eth0")
		a.rt.CapabilityArgs = map[string]any{"ips": []string{"10.9.0.9/24"}}
		r := a.add(t)
		if diff := cmp.Diff([]string{"ip 0 10.9.0.9/24 10.9.0.2", "route 0.0.0.0/0 10.9.0.2", "dns [192.0.2.53] [] []"}, text(t, r)[1:]); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
	})
	t.Run("missing", func(t *testing.T) {
		n := newNetwork(t, "1.0.0", map[string]any{"ipam": map[string]any{"type": "nothing-like-it"}})
		_, err := n.attachment(attachtest.NewContainer(t), "eth0").tryAdd(t)
		expectCode(t, err, types.ErrInternal, "nothing-like-it")
		n.expectNothing(t)
	})
}

// TestAttachments gives a container several networks at once, as go-cni does.
func TestAttachments(t *testing.T) {
	const many = 3
	n := newNetwork(t, "1.0.0", map[string]any{"subnet": "10.0.2.0/24", "subnet6": "fd00::/64"})
	c := attachtest.NewContainer(t)
	var all []*attachment
	var g errgroup.Group
	for i := range many {
		a := n.attachment(c, fmt.Sprint("eth", i))
		all = append(all, a)
		g.Go(func() error {
			_, err := a.tryAdd(t)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	n.expectHelpers(t, many)
	for i, a := range all {
		if err := a.check(t); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		expectTraffic(t, c)
		if err := a.del(t); err != nil {
			t.Errorf("DEL: %v", err)
		}
		n.expectHelpers(t, many-i-1)
	}
}
