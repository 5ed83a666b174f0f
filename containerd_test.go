// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// containerdScript runs containers of containerd's in a CNI network: it is told where
// our plugin is, a directory to work in, and what to fetch. There are no control groups.
const containerdScript = `
export PATH=$PATH:/usr/sbin:/sbin
for dir in /run /var/lib /opt /etc/cni; do
	[ -d $dir ] && mount -t tmpfs machine $dir
done
mkdir -p /opt/cni/bin /etc/cni/net.d /run/rootfs/bin
cp "$1"/* /opt/cni/bin/
cp "$2"/net.conflist /etc/cni/net.d/
cp $(command -v busybox) /run/rootfs/bin/
printf '#!/bin/sh\nexec crun --cgroup-manager=disabled "$@"\n' >/run/runc && chmod 755 /run/runc
cat >/run/config.toml <<EOF
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/run/containerd/containerd.sock"
EOF
containerd -c /run/config.toml >/run/log 2>&1 &
daemon=$!
until ctr version >/dev/null 2>&1; do kill -0 $daemon || { cat /run/log; exit 1; }; done
run() { ctr run --cni --runc-binary /run/runc --rootfs "$@"; }
helpers() { pgrep -fc '^slipway attach'; }
run --rm /run/rootfs one /bin/busybox wget -q -O - "http://$3"
echo $(helpers) helpers
run -d /run/rootfs two /bin/busybox sleep 1000
echo $(helpers) helpers
ctr task exec --exec-id look two /bin/busybox wget -q -O - "http://$3"
ctr task kill -s 9 two
while [ $(helpers) != 0 ]; do :; done
echo ended without DEL
kill $daemon
`

// TestContainerd has containerd's own client run containers as root of a machine. It
// deletes attachments without saying where, and those of detached containers never.
func TestContainerd(t *testing.T) {
	binary(t)
	attachtest.NeedTools(t, "containerd", "ctr", "crun", "busybox", "pgrep")
	binary(t) // beside which the plugin is
	plugins, err := pluginDir()
	if err != nil {
		t.Fatal(err)
	}
	m := attachtest.NewMachine(t)
	dir := t.TempDir()
	conflist := `{"cniVersion":"0.4.0","name":"ours","plugins":[{"type":"slipway-cni"}]}`
	if err := os.WriteFile(filepath.Join(dir, "net.conflist"), []byte(conflist), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	peer := serveHTTP(t, m.Peer, netip.MustParseAddr("10.97.0.2"), []byte(hello))
	got, code := m.Host.Run(t, "unshare", "--mount", "timeout", "60", "sh", "-c", containerdScript, "sh", plugins, dir, peer)
	want := hello + "0 helpers\n1 helpers\n" + hello + "ended without DEL\n"
	if diff := cmp.Diff(want, got); diff != "" || code != 0 {
		t.Errorf("exit code %d, output (-want +got):\n%s", code, diff)
	}
	if out, _ := m.Host.Run(t, "pgrep", "-fa", "slipway attach"); out != "" {
		t.Errorf("helpers are left: %s", out)
	}
}
