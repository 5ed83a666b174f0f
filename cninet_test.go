// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// referencePlugins is where Debian has the plugins of the CNI project.
const referencePlugins = "/usr/lib/cni"

// A cniUser is a user with CNI networks.
type cniUser struct {
	*user
	confs, state string // of networks; of our plugin
}

// newCNIUser returns a user with these networks, by name, each a list of plugins in which
// STATE and LEASES are directories of the user's.
func newCNIUser(t *testing.T, networks map[string]string) *cniUser {
	t.Helper()
	u := &cniUser{user: newUser(t)}
	for _, name := range []string{"tuning", "loopback", "host-local", "bridge"} {
		if unix.Access(filepath.Join(referencePlugins, name), unix.X_OK) != nil {
			attachtest.Unavailable(t, "there is no CNI plugin "+name)
		}
	}
	plugins, err := pluginDir()
	if err != nil {
		t.Fatal(err)
	}
	u.env = append(u.env, "CNI_PATH="+plugins+":"+referencePlugins)
	u.confs = filepath.Join(u.dir, "net.d")
	// A socket's path has to be short.
	if u.state, err = os.MkdirTemp("", "c"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(u.state) })
	if err := os.Mkdir(u.confs, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, list := range networks {
		text := fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[%s]}`, name, strings.NewReplacer("STATE", u.state, "LEASES", u.leases()).Replace(list))
		if err := os.WriteFile(filepath.Join(u.confs, name+".conflist"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func (u *cniUser) leases() string { return filepath.Join(u.dir, "leases") }

// words returns the words of `slipway run` in a network.
func (u *cniUser) words(network string, words ...string) []string {
	return append([]string{"run", "--cni-dir", u.confs, "--net", "cni:" + network}, words...)
}

// detached fails the test unless nothing of an attachment is left.
func (u *cniUser) detached(t *testing.T) {
	t.Helper()
	attachtest.Eventually(t, "no helper is left", func() bool { return u.helpers(t) == 0 })
	for _, glob := range []string{u.run + "/slipway/cni/*", u.state + "/*/*/*", u.leases() + "/*/[0-9]*"} {
		left, err := filepath.Glob(glob)
		if err != nil || len(left) > 0 {
			t.Errorf("left of an attachment: %v %v", left, err)
		}
	}
}

// abandoned reports whether there are attachments, and nobody has them.
func (u *cniUser) abandoned(t *testing.T) bool {
	t.Helper()
	dirs, err := filepath.Glob(u.run + "/slipway/cni/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no attachment: %v", err)
	}
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		f.Close()
		if err != nil {
			return false
		}
	}
	return true
}

// helpers counts the processes of our plugin.
func (u *cniUser) helpers(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), "slipway\x00attach\x00") && strings.Contains(string(b), u.state) {
			n++
		}
	}
	return n
}

// ours is our plugin, before one of the CNI project's that sets a sysctl.
const ours = `{"type":"slipway-cni","subnet":"10.50.0.0/24","stateDir":"STATE","capabilities":{"portMappings":true,"aliases":true}},
	{"type":"tuning","sysctl":{"net.ipv4.conf.all.log_martians":"1"}}`

// TestCNINetwork runs containers of a plain user in a network of two plugins.
func TestCNINetwork(t *testing.T) {
	w := attachtest.Open(t)
	attachtest.NeedTools(t, "busybox", "curl", "ip")
	u := newCNIUser(t, map[string]string{"shop": ours})
	for _, f := range attachtest.Families() {
		addr := serveHTTP(t, w.Peer, f.PeerAddr, []byte("hello"))
		if got := u.must(t, u.words("shop", "--", "curl", "-gsS", "-m", "20", "http://"+addr)...); got != "hello" {
			t.Errorf("%s: %q", f.Name, got)
		}
	}
	u.detached(t)
	got := u.must(t, u.words("shop", "--hostname", "web", "--", "sh", "-c",
		"echo $PATH; ls -ld /bin /usr /usr/bin /usr/bin/cat; ip -o -4 addr show eth0; cat /etc/hosts /etc/resolv.conf; echo martians $(cat /proc/sys/net/ipv4/conf/all/log_martians)")...)
	for _, want := range []string{" 10.50.0.100/24 ", "10.50.0.100\tweb\n", "nameserver 10.50.0.3\n", "martians 1"} {
		if !strings.Contains(got, want) {
			t.Errorf("the container has no %q in\n%s", want, got)
		}
	}
	host := attachtest.Families()[0].HostAddr
	u.must(t, u.words("shop", "-d", "--name", "web", "--network-alias", "store", "-p", "18097:8080", "--", "sh", "-ec",
		"mkdir /run/www; echo of the shop >/run/www/index.html; exec busybox httpd -f -p 8080 -h /run/www")...)
	url := "http://" + netip.AddrPortFrom(host, 18097).String()
	attachtest.Eventually(t, "the server answers", func() bool {
		return finish(t, exec.Command("curl", "-sS", "-m", "5", url)).stdout == "of the shop\n"
	})
	var seen []struct {
		Net   string
		Addrs []netip.Prefix
	}
	if err := json.Unmarshal([]byte(u.must(t, "inspect", "web")), &seen); err != nil {
		t.Fatal(err)
	}
	if s := seen[0]; s.Net != "cni:shop" || len(s.Addrs) == 0 || s.Addrs[0] != netip.MustParsePrefix("10.50.0.100/24") {
		t.Errorf("inspect: %+v", s)
	}
	for _, word := range []string{"port", "ports", "flows"} {
		u.refuse(t, 1, "cni:shop", word, "web")
	}
	u.must(t, "rm", "-f", "web")
	u.detached(t)
}

// TestCNINetworkKilled kills a supervisor, and has the next command clean up.
func TestCNINetworkKilled(t *testing.T) {
	attachtest.Open(t)
	u := newCNIUser(t, map[string]string{"shop": ours, "fixed": leased})
	for _, clean := range [][]string{{"rm", "-fa"}, {"gc"}, u.words("shop", "--", "true")} {
		networks := []string{"shop", "fixed"}
		for _, network := range networks {
			u.must(t, u.words(network, "-d", "--name", network, "--", "sleep", "1000")...)
		}
		for _, network := range networks {
			if err := unix.Kill(u.inspect(t, network).Supervisor.PID, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		attachtest.Eventually(t, "the supervisor is gone", func() bool { return u.abandoned(t) })
		if got := u.slipway(t, clean...); got.code != 0 || got.stderr != "" {
			t.Errorf("%v: %+v", clean, got)
		}
		u.detached(t)
		u.must(t, "rm", "-fa")
	}
}

// TestCNINetworkPluginGone has gc say which attachment cannot be taken back, and go on, as
// does rm.
func TestCNINetworkPluginGone(t *testing.T) {
	attachtest.Open(t)
	u := newCNIUser(t, map[string]string{"copied": `{"type":"copied"}`})
	b, err := os.ReadFile(filepath.Join(referencePlugins, "loopback"))
	if err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Join(u.dir, "copied")
	if err := os.WriteFile(plugin, b, 0o700); err != nil {
		t.Fatal(err)
	}
	u.env = append(u.env, "CNI_PATH="+u.dir)
	u.must(t, u.words("copied", "-d", "--name", "c", "--", "sleep", "1000")...)
	if err := unix.Kill(u.inspect(t, "c").Supervisor.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	attachtest.Eventually(t, "the supervisor is gone", func() bool { return u.abandoned(t) })
	if err := os.Rename(plugin, plugin+".old"); err != nil {
		t.Fatal(err)
	}
	got := u.slipway(t, "gc")
	if got.code != 1 || !strings.Contains(got.stdout, "removed") || !strings.Contains(got.stderr, `"copied"`) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("gc: %+v", got)
	}
	if got := u.slipway(t, "rm", "c"); got.code != 0 || got.stdout != "c\n" || !strings.Contains(got.stderr, `"copied"`) {
		t.Errorf("rm: %+v", got)
	}
	if err := os.Rename(plugin+".old", plugin); err != nil {
		t.Fatal(err)
	}
	u.must(t, "gc")
	u.detached(t)
}

// leased has addresses of a plugin that notes them in files.
const leased = `{"type":"slipway-cni","stateDir":"STATE","ipam":{"type":"host-local","dataDir":"LEASES","ranges":[[{"subnet":"10.60.0.0/24","gateway":"10.60.0.1"}]]}}`

// TestCNINetworkOthers runs a container in a network without a plugin of ours, and in one
// whose addresses another plugin gives.
func TestCNINetworkOthers(t *testing.T) {
	attachtest.Open(t)
	u := newCNIUser(t, map[string]string{"alone": `{"type":"loopback"}`, "leased": leased})
	if got := u.must(t, u.words("alone", "--", "sh", "-c", "ls /sys/class/net; ip -o -4 addr show lo")...); !strings.HasPrefix(got, "lo\n") || !strings.Contains(got, "127.0.0.1/8") {
		t.Errorf("alone: %q", got)
	}
	got := u.must(t, u.words("leased", "--hostname", "web", "--", "sh", "-c", "ip -o -4 addr show eth0; grep web /etc/hosts")...)
	if !strings.Contains(got, "10.60.0.2/24") || !strings.Contains(got, "10.60.0.2\tweb") {
		t.Errorf("leased: %q", got)
	}
	u.detached(t)
}

// TestCNINetworkRefused has one clear line for what cannot be, and nothing left of it.
func TestCNINetworkRefused(t *testing.T) {
	w := attachtest.Open(t)
	u := newCNIUser(t, map[string]string{
		"shop": ours, "no-ports": `{"type":"loopback"}`, "missing": `{"type":"no-such-plugin"}`,
		"second-fails": `{"type":"slipway-cni","stateDir":"STATE"},{"type":"tuning","sysctl":{"net.no.such":"1"}}`,
		"bad":          `{"type":"slipway-cni","subnet":"10.0.0.0/99","stateDir":"STATE"}`,
		"broken":       `{"type":`,
	})
	host := attachtest.Families()[0].HostAddr
	w.Host.Listen(t, netip.AddrPortFrom(host, 18098))
	for _, tt := range []struct {
		network string
		flags   []string
		code    int
		want    string
	}{
		{"nobody", nil, 125, "no such network"},
		{"broken", nil, 125, "broken.conflist"},
		{"missing", nil, 125, "no-such-plugin"},
		{"bad", nil, 125, "10.0.0.0/99"},
		{"second-fails", nil, 125, "tuning"},
		{"no-ports", []string{"-p", "18098:80"}, 125, "portMappings"},
		{"no-ports", []string{"--network-alias", "a"}, 125, "aliases"},
		{"shop", []string{"-p", host.String() + ":18098:80"}, 125, "18098"},
		{"shop", []string{"-p", "0:80"}, 2, "with a port of the host"},
		{"shop", []string{"-p", "auto"}, 2, "auto"},
		{"shop", []string{"--network", "a"}, 2, "--net private"},
		{"shop", []string{"--network-alias", "a b"}, 2, `name "a b"`},
		{"shop", []string{"--dns", "a"}, 2, "--dns"},
	} {
		u.refuse(t, tt.code, tt.want, u.words(tt.network, append(tt.flags, "--", "true")...)...)
	}
	u.refuse(t, 2, "give that, too", "run", "--cni-dir", u.confs, "--", "true")
	u.refuse(t, 2, "cni:NAME", "run", "--net", "cni:", "--", "true")
	u.detached(t)
}

// bridged is a network that only root can make.
const bridged = `{"type":"bridge","bridge":"cni0","isGateway":true,"ipam":{"type":"host-local","dataDir":"/mnt/leases","subnet":"10.70.0.0/24"},"dns":{"nameservers":["10.70.0.1"],"search":["shop.test"]}}`

// rootScript runs a container of root's and lists what is left of its attachment. All that
// is root's is on a file system that ends with it.
const rootScript = `mount -t tmpfs run /mnt && export HOME=/mnt XDG_RUNTIME_DIR=/mnt
"$@" || exit
echo left: $(ls /mnt/slipway/cni) $(ls /mnt/leases/bridged | grep '^[0-9]') $(ip -o link | grep -o 'veth[^:@]*')`

// TestCNINetworkRoot runs a container of root in a network with a bridge, and refuses one
// to a plain user.
func TestCNINetworkRoot(t *testing.T) {
	attachtest.NeedTools(t, "busybox", "ip")
	u := newCNIUser(t, map[string]string{"bridged": bridged})
	m := attachtest.NewMachine(t)
	u.refuse(t, 125, "bridge", u.words("bridged", "--", "true")...)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	words := append([]string{binary(t)}, u.words("bridged", "--hostname", "web", "-v", busybox+":/run/busybox", "--", "/run/busybox", "sh", "-c",
		"B=/run/busybox; ip -o -4 addr show eth0; $B cat /etc/hosts /etc/resolv.conf; $B ping -c 1 10.70.0.1")...)
	got := m.Host.Exec(t, append(append([]string{"env"}, u.env...), append([]string{"unshare", "--mount", "sh", "-c", rootScript, "sh"}, words...)...)...)
	for _, want := range []string{" 10.70.0.2/24 ", "10.70.0.2\tweb\n", "nameserver 10.70.0.1\nsearch shop.test\n", "1 packets received", "left:\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the container has no %q in\n%s", want, got)
		}
	}
	u.detached(t)
}

// TestCNINetworkImage has a container of an image, with subordinate ids, in a network of
// plugins, and another in the network of that one.
func TestCNINetworkImage(t *testing.T) {
	u := newImageUser(t)
	plugins, err := pluginDir()
	if err != nil {
		t.Fatal(err)
	}
	confs := filepath.Join(u.dir, "home/networks")
	u.env = append(u.env, "CNI_PATH="+plugins, "NETCONFPATH="+confs) // which a detached supervisor has, too
	if err := os.MkdirAll(confs, 0o700); err != nil {
		t.Fatal(err)
	}
	const conf = `{"cniVersion":"1.0.0","name":"shop","plugins":[{"type":"slipway-cni","subnet":"10.50.0.0/24"}]}`
	if err := os.WriteFile(filepath.Join(confs, "shop.conflist"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	const look = "ip -o -4 addr show eth0; cat /etc/resolv.conf /proc/self/uid_map; grep -E 'Cap|Groups' /proc/self/status"
	if got := u.slipway(t, "run", "-d", "--name", "main", "--net", "cni:shop", "box", "sleep", "1000"); got.code != 0 {
		t.Fatalf("run: %+v", got)
	}
	want := u.slipway(t, "exec", "main", "sh", "-c", look)
	if want.code != 0 || !strings.Contains(want.stdout, "10.50.0.100/24") || !strings.Contains(want.stdout, "nameserver 10.50.0.3") {
		t.Errorf("the container sees %+v", want)
	}
	if diff := cmp.Diff(want, u.slipway(t, "run", "--net", "container:main", "box", "sh", "-c", look), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("the network, ids and rights of the second (-first's +its):\n%s", diff)
	}
	if got := u.slipway(t, "run", "--userns", "keep-id", "--net", "cni:shop", "box", "true"); got.code != 2 || !strings.Contains(got.stderr, "root is the caller") {
		t.Errorf("another root: %+v", got)
	}
	if got := u.slipway(t, "rm", "-f", "main"); got.code != 0 {
		t.Errorf("rm: %+v", got)
	}
	for _, glob := range []string{"run/slipway/cni/*", "run/slipway-cni/*/*"} {
		if left, err := filepath.Glob(filepath.Join(u.dir, glob)); err != nil || len(left) > 0 {
			t.Errorf("left of an attachment: %v %v", left, err)
		}
	}
}
