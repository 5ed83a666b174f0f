// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// noTunScript takes the tun device away, and has the plugin say what that means.
const noTunScript = `
mount --bind /dev/null /dev/net/tun
mount -t tmpfs machine /run
unshare -n sleep 1000 & pid=$!
until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
export CNI_PATH=$1 CNI_CONTAINERID=one CNI_IFNAME=eth0 CNI_NETNS=/proc/$pid/ns/net
for command in STATUS ADD DEL; do
	echo '{"cniVersion":"1.1.0","name":"net","type":"slipway-cni"}' | CNI_COMMAND=$command "$1/slipway-cni" | grep -e '"code"' -e '"msg"'
done
find /run -name attachment.json; pgrep -fa '^slipway attach'
kill $pid
`

// TestNoTun has a machine without the device that makes taps.
func TestNoTun(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the built program: not with -short")
	}
	m := attachtest.NewMachine(t)
	out, _ := m.Host.Run(t, "unshare", "--mount", "timeout", "30", "sh", "-c", noTunScript, "sh", os.Getenv(binVar))
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 4 || !strings.Contains(lines[0], "50") || !strings.Contains(lines[1], "tun device") ||
		!strings.Contains(lines[2], "100") || !strings.Contains(lines[3], "/dev/net/tun") {
		t.Errorf("the plugin says %s\nwant code 50 about the device for STATUS, 100 for ADD, and nothing for DEL", out)
	}
}

// searchScript has a host with a resolv.conf of its own, $2, and adds networks to a
// container that want its search domains, the last of them only theirs.
const searchScript = `
mount --bind "$2" /etc/resolv.conf
mount -t tmpfs machine /run
unshare -n sleep 1000 & pid=$!
until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
export CNI_PATH=$1 CNI_CONTAINERID=one CNI_IFNAME=eth0 CNI_NETNS=/proc/$pid/ns/net
for keys in '"dnsSearchFromHost":true' '"dnsSearchFromHost":true,"dns":{"search":["own.example"],"options":["ndots:5"]}' '"dnsSearchFromHost":false'; do
	for command in ADD DEL; do
		echo '{"cniVersion":"1.1.0","name":"net","type":"slipway-cni",'"$keys"'}' | CNI_COMMAND=$command "$1/slipway-cni" | tr -d ' \n' | grep -o '"dns":{.*'
	done
done
kill $pid
`

// TestSearchFromHost has the host's search domains in the result.
func TestSearchFromHost(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the built program: not with -short")
	}
	m := attachtest.NewMachine(t)
	resolv := shortDir(t) + "/resolv.conf"
	if err := os.WriteFile(resolv, []byte("nameserver 10.97.0.2\nsearch corp.example bad..name\noptions ndots:2 edns0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ := m.Host.Run(t, "unshare", "--mount", "timeout", "30", "sh", "-c", searchScript, "sh", os.Getenv(binVar), resolv)
	dns := func(line string) (d types.DNS) {
		line = strings.TrimPrefix(line, `"dns":`)
		if err := json.NewDecoder(strings.NewReader(line)).Decode(&d); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		d.Nameservers = nil
		return d
	}
	var got []types.DNS
	for line := range strings.Lines(out) {
		got = append(got, dns(line))
	}
	want := []types.DNS{
		{Search: []string{"corp.example"}, Options: []string{"ndots:2", "edns0"}},
		{Search: []string{"own.example", "corp.example"}, Options: []string{"ndots:5", "edns0"}},
		{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\ndns (-want +got):\n%s", out, diff)
	}
}

// TestTerminated tells an ADD to end that waits for its helper: it undoes what it did.
func TestTerminated(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	c := attachtest.NewContainer(t)
	slow := shortDir(t) + "/slow"
	// It says that it runs by a file, and never gets ready.
	if err := os.WriteFile(slow, []byte("#!/bin/sh\n>"+slow+".runs\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		cmd := n.command(t, "ADD", n.attachment(c, "eth0").rt)
		cmd.Stdin = openText(t, `{"cniVersion":"1.1.0","name":"net","type":"slipway-cni","stateDir":"`+n.state+`","helperPath":"`+slow+`"}`)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error { _, err := os.Stat(slow + ".runs"); return err })
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%v: %v, want exit code 1", s, err)
		}
		n.expectNothing(t)
		if err := os.Remove(slow + ".runs"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSilentSystemd has a systemd that does not answer: an ADD goes on without a scope,
// also where that has less time than systemd would get, and the helper's log says so. With "cgroup": "off" it is not even asked.
func TestSilentSystemd(t *testing.T) {
	run := shortDir(t)
	if err := os.Mkdir(run+"/systemd", 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", run+"/systemd/private")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(asked)
				return
			}
			asked <- c
		}
	}()
	t.Setenv("XDG_RUNTIME_DIR", run)
	for cgroup, want := range map[string]bool{"auto": true, "off": false} {
		n := newNetwork(t, "1.1.0", map[string]any{"cgroup": cgroup, "readyTimeout": "2s"})
		c := attachtest.NewContainer(t)
		a := n.attachment(c, "eth0")
		a.add(t)
		expectTraffic(t, c)
		logs, err := filepath.Glob(n.state + "/*/*/log")
		if err != nil || len(logs) != 1 {
			t.Fatalf("logs %q, %v", logs, err)
		}
		text, err := os.ReadFile(logs[0])
		if err != nil || strings.Contains(string(text), "have systemd make slipway-cni-") != want {
			t.Errorf("cgroup %s: the log says %s, %v", cgroup, text, err)
		}
		if got := len(asked) > 0; got != want {
			t.Errorf("cgroup %s: systemd was asked: %v", cgroup, got)
		}
		for len(asked) > 0 {
			(<-asked).Close()
		}
	}
}
