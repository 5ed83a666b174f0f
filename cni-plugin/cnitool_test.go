// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// cnitoolScript goes through an attachment's life with cnitool. That keeps a cache in
// /var/lib/cni, and tuning one in /run/cni. The script is told where the programs are, and
// where the configuration is.
const cnitoolScript = `
export PATH=$PATH:/usr/sbin:/sbin CNI_PATH=$1:/usr/lib/cni:/opt/cni/bin NETCONFPATH=$2 XDG_RUNTIME_DIR=$2
mount -t tmpfs cache /var/lib && mount -t tmpfs cache /run
unshare -n sleep 1000 & pid=$!
until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
ns=/proc/$pid/ns/net
helpers() { pgrep -fc "^slipway attach.* $ns\$"; }
$1/cnitool add net $ns | grep '"address"'
echo $(helpers) helper
$1/cnitool check net $ns && echo checked
$1/cnitool status net $ns && echo ready
nsenter --net=$ns wget -q -O - http://10.97.0.2:8080/
nsenter --net=$ns ip -o link show eth0 | grep -o 'mtu 1400.*ether 02:00:00:00:00:77'
$1/cnitool del net $ns && $1/cnitool del net $ns && echo deleted twice
echo $(helpers) helpers
$1/cnitool add net $ns >/dev/null && pkill -9 -f "^slipway attach.* $ns\$"
while [ $(helpers) != 0 ]; do :; done
$1/cnitool check net $ns >/dev/null 2>&1 || echo missed
$1/cnitool del net $ns && $1/cnitool add net $ns >/dev/null && echo again
CNI_IFNAME=eth1 $1/cnitool add net $ns >/dev/null && echo $(helpers) helpers
$1/cnitool gc net $ns; echo $(helpers) helpers
$1/cnitool add net $ns >/dev/null
kill $pid
while [ $(helpers) != 0 ]; do :; done
echo ended with the namespace
`

const cnitoolWant = `            "address": "127.0.0.1/8",
            "address": "::1/128",
            "address": "10.0.2.100/24",
            "address": "fd00::100/64",
1 helper
checked
ready
hello from outside
mtu 1400 qdisc pfifo_fast state UNKNOWN mode DEFAULT group default qlen 1000\    link/ether 02:00:00:00:00:77
deleted twice
0 helpers
missed
again
2 helpers
0 helpers
ended with the namespace
`

// TestCNITool has the tool of the CNI project drive us, with other plugins before and
// behind: as root of a machine, and as a plain user in a user namespace of its own.
func TestCNITool(t *testing.T) {
	needPlugins(t, "loopback", "tuning")
	attachtest.NeedTools(t, "nsenter", "unshare", "wget", "pgrep")
	for _, who := range []string{"root", "plain user"} {
		t.Run(who, func(t *testing.T) {
			m := attachtest.NewMachine(t)
			dir := shortDir(t)
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Host.Exec(t, "sh", "-c", `rm -rf "$1"/slipway-cni`, "sh", dir) })
			conflist := `{"cniVersion":"1.1.0","name":"net","plugins":[
				{"type":"loopback"},
				{"type":"slipway-cni","capabilities":{"portMappings":true,"ips":true,"mac":true}},
				{"type":"tuning","mac":"02:00:00:00:00:77","mtu":1400}]}`
			// Debian's plugins know 1.0.0 at most.
			conflist = strings.Replace(conflist, "1.1.0", "1.0.0", 1)
			if err := os.WriteFile(filepath.Join(dir, "net.conflist"), []byte(conflist), 0o644); err != nil {
				t.Fatal(err)
			}
			go greet(m.Peer.Listen(t, netip.MustParseAddrPort("10.97.0.2:8080")))
			argv := []string{"timeout", "15", "sh", "-c", cnitoolScript, "sh", os.Getenv(binVar), dir}
			if who == "root" {
				argv = append([]string{"unshare", "--mount"}, argv...)
			} else {
				argv = m.AsUser([]string{"PATH=/usr/bin:/bin"}, append([]string{"unshare", "--user", "--map-root-user", "--mount"}, argv...)...)
			}
			got, code := m.Host.Run(t, argv...)
			if diff := cmp.Diff(cnitoolWant, got); diff != "" || code != 0 {
				t.Errorf("exit code %d, output (-want +got):\n%s", code, diff)
			}
			if out, _ := m.Host.Run(t, "pgrep", "-fa", "slipway attach"); out != "" {
				t.Errorf("helpers are left: %s", out)
			}
		})
	}
}

// greet says hello by HTTP to who connects.
func greet(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			fmt.Fprint(c, "HTTP/1.0 200 OK\r\n\r\nhello from outside\n")
		}
		c.Close()
	}
}
