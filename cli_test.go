// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestHelp compares what users read with testdata; -update writes that anew.
func TestHelp(t *testing.T) {
	for _, tt := range []struct {
		golden string
		args   []string
	}{
		{"help.txt", []string{"--help"}},
		{"attach-help.txt", []string{"attach", "--help"}},
		{"slirp4netns-help.txt", []string{"slirp4netns", "--help"}},
		{"pasta-help.txt", []string{"pasta", "--help"}},
		{"run-help.txt", []string{"run", "--help"}},
		{"pull-help.txt", []string{"pull", "--help"}},
		{"images-help.txt", []string{"images", "--help"}},
		{"tag-help.txt", []string{"tag", "--help"}},
		{"rmi-help.txt", []string{"rmi", "--help"}},
		{"load-help.txt", []string{"load", "--help"}},
		{"save-help.txt", []string{"save", "--help"}},
		{"gc-help.txt", []string{"gc", "--help"}},
		{"volume-help.txt", []string{"volume", "--help"}},
		{"flows-help.txt", []string{"flows", "--help"}},
		{"ports-help.txt", []string{"ports", "--help"}},
		{"pcap-help.txt", []string{"pcap", "--help"}},
		{"doctor-help.txt", []string{"doctor", "--help"}},
		{"ps-help.txt", []string{"ps", "--help"}},
		{"start-help.txt", []string{"start", "--help"}},
		{"console-help.txt", []string{"console", "--help"}},
		{"port-help.txt", []string{"port", "--help"}},
		{"stats-help.txt", []string{"stats", "--help"}},
		{"generate-help.txt", []string{"generate", "--help"}},
		{"completion-help.txt", []string{"completion", "--help"}},
		{"cp-help.txt", []string{"cp", "--help"}},
		{"exec-help.txt", []string{"exec", "--help"}},
		{"logs-help.txt", []string{"logs", "--help"}},
		{"stop-help.txt", []string{"stop", "--help"}},
		{"kill-help.txt", []string{"kill", "--help"}},
		{"wait-help.txt", []string{"wait", "--help"}},
		{"rm-help.txt", []string{"rm", "--help"}},
		{"rm-help.txt", []string{"help", "rm"}},
		{"inspect-help.txt", []string{"inspect", "--help"}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			got := slipway(t, tt.args...)
			if got.code != 0 || got.stderr != "" {
				t.Errorf("exit code %d, standard error %q, want 0 and nothing", got.code, got.stderr)
			}
			path := filepath.Join("testdata", tt.golden)
			if *update {
				if err := os.WriteFile(path, []byte(got.stdout), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.stdout); diff != "" {
				t.Errorf("help (-want +got):\n%s", diff)
			}
		})
	}
}

// A badInput is a command line that must fail with one line.
type badInput struct {
	name string
	// args has PID for the container's process and DIR for an empty directory.
	args []string
	code int
	want string // in the line
	// mount is a shell command that changes the mounts of the program.
	mount string
}

func badInputs() []badInput {
	const usage, failure = 2, 1
	attach := func(args ...string) []string { return append([]string{"attach"}, args...) }
	mounted := func(cmd string) badInput { return badInput{args: attach("PID"), code: failure, mount: cmd} }
	with := func(b badInput, name, want string) badInput { b.name, b.want = name, want; return b }
	return []badInput{
		{name: "unknown command", args: []string{"atach"}, code: usage, want: "atach"},
		{name: "unknown command for help", args: []string{"help", "atach"}, code: usage, want: "atach"},
		{name: "hostname by -h", args: []string{"run", "--rm", "-h", "host", "--", "true"}, code: usage, want: "--hostname host"},
		{name: "no target", args: attach(), code: usage, want: "PID or NETNS-PATH"},
		{name: "two targets", args: attach("PID", "PID"), code: usage, want: "PID or NETNS-PATH"},
		{name: "word as target", args: attach("container"), code: usage, want: "process id"},
		{name: "process 0", args: attach("0"), code: usage, want: "greater than zero"},
		{name: "unknown process", args: attach("2147483646"), code: failure, want: "no process 2147483646"},
		{name: "process of root", args: attach("1"), code: failure, want: "another user"},
		{name: "plain file", args: attach("/etc/passwd"), code: failure, want: "/etc/passwd"},
		{name: "missing file", args: attach("DIR/none"), code: failure, want: "none"},
		{name: "plain file as user namespace", args: attach("--userns", "/etc/passwd", "PID"), code: failure, want: "/etc/passwd"},
		{name: "unknown flag", args: attach("--nothing", "PID"), code: usage, want: "--nothing"},
		{name: "name taken", args: attach("--ifname", "taken0", "PID"), code: failure, want: "taken0"},
		{name: "name too long", args: attach("--ifname", "a-name-too-long-for-the-kernel", "PID"), code: failure, want: "15 bytes"},
		{name: "name with a slash", args: attach("--ifname", "a/b", "PID"), code: failure, want: "a/b"},
		{name: "MTU too small", args: attach("--mtu", "67", "PID"), code: failure, want: "67"},
		{name: "MTU too small for IPv6", args: attach("--mtu", "1279", "PID"), code: failure, want: "1280"},
		{name: "MTU too large", args: attach("--mtu", "65522", "PID"), code: failure, want: "65522"},
		{name: "MTU no number", args: attach("--mtu", "large", "PID"), code: usage, want: "--mtu"},
		{name: "MAC", args: attach("--macaddress", "52:54:00", "PID"), code: usage, want: "52:54:00"},
		{name: "MAC of a group", args: attach("--macaddress", "01:00:5e:00:00:01", "PID"), code: usage, want: "unicast"},
		{name: "CIDR", args: attach("--cidr", "10.0.2.0/33", "PID"), code: usage, want: "--cidr"},
		{name: "CIDR too narrow", args: attach("--cidr", "10.0.2.0/26", "PID"), code: usage, want: "10.0.2.0/26"},
		{name: "CIDR with host bits", args: attach("--cidr", "10.0.2.1/24", "PID"), code: usage, want: "10.0.2.0/24"},
		{name: "CIDR6", args: attach("--cidr6", "fd00::/48", "PID"), code: usage, want: "64"},
		{name: "CIDR6 no network", args: attach("--cidr6", "yes", "PID"), code: usage, want: "--cidr6"},
		{name: "rule", args: attach("--deny", "10.0.0.0/8:web", "PID"), code: usage, want: "web"},
		{name: "resolver", args: attach("--dns", "one.example", "PID"), code: usage, want: "one.example"},
		{name: "host loopback", args: attach("--host-loopback", "gateway", "PID"), code: usage, want: "gateway"},
		{name: "host loopback, port", args: attach("--host-loopback", "10.0.2.2:70000", "PID"), code: usage, want: "70000"},
		{name: "host loopback, protocol", args: attach("--host-loopback", "10.0.2.2:80/sctp", "PID"), code: usage, want: "sctp"},
		{name: "host loopback twice", args: attach("--host-loopback", "10.0.2.2:80", "--host-loopback", "10.0.2.2:70-90", "PID"), code: failure, want: "10.0.2.2:80"},
		{name: "host loopback with all ports twice", args: attach("--host-loopback", "10.0.2.2", "--host-loopback", "10.0.2.9", "PID"), code: failure, want: "all ports"},
		{name: "host socket", args: attach("--host-socket", "80", "PID"), code: usage, want: "PORT=PATH"},
		{name: "host socket, relative path", args: attach("--host-socket", "80=s", "PID"), code: usage, want: "not absolute"},
		{name: "host socket, long path", args: attach("--host-socket", "80=/"+strings.Repeat("p", 107), "PID"), code: usage, want: "at most 107"},
		{name: "host socket at a file", args: attach("--host-socket", "80=/etc/passwd", "PID"), code: failure, want: "/etc/passwd"},
		{name: "host socket in a closed directory", args: attach("--host-socket", "80=/root/s", "PID"), code: failure, want: "/root/s"},
		{name: "host socket elsewhere", args: attach("--host-socket", "192.0.2.1:80=DIR/s", "PID"), code: failure, want: "10.0.2.0/24"},
		{name: "host socket twice", args: attach("--host-socket", "80=DIR/s", "--host-socket", "10.0.2.2:80=DIR/t", "PID"), code: failure, want: "already"},
		{name: "host loopback at the resolver", args: attach("--host-loopback", "10.0.2.3", "PID"), code: failure, want: "10.0.2.3"},
		{name: "outbound interface", args: attach("--outbound-addr", "none0", "PID"), code: failure, want: "none0"},
		{name: "outbound address", args: attach("--outbound-addr", "192.0.2.1", "PID"), code: failure, want: "192.0.2.1"},
		{name: "ready descriptor", args: attach("--ready-fd", "99", "PID"), code: failure, want: "99"},
		{name: "ready descriptor no number", args: attach("--ready-fd", "-2", "PID"), code: usage, want: "-2"},
		{name: "exit descriptor", args: attach("--exit-fd", "99", "PID"), code: failure, want: "99"},
		{name: "plain file as exit descriptor", args: attach("--exit-fd", "3", "PID"), code: failure, want: "3"},
		{name: "directory as exit descriptor", args: attach("--exit-fd", "4", "PID"), code: failure, want: "4"},
		{name: "pidfile", args: attach("--pidfile", "DIR/none/pid", "PID"), code: failure, want: "none/pid"},
		{name: "API socket", args: attach("--pidfile", "DIR/pid", "--api", "DIR/none/api", "PID"), code: failure, want: "none/api"},
		{name: "API socket at a file", args: attach("--api", "/etc/passwd", "PID"), code: failure, want: "not a socket"},
		{name: "capture", args: attach("--api", "DIR/api", "--pcap", "DIR/none/pcap", "PID"), code: failure, want: "none/pcap"},
		{name: "rule of a port", args: attach("--publish", "8080:80/sctp", "PID"), code: usage, want: "sctp"},
		{name: "range of ports that runs backwards", args: attach("-p", "9-8:1-2", "PID"), code: usage, want: "8-9"},
		{name: "port too large", args: attach("-p", "70000:80", "PID"), code: usage, want: "70000"},
		{name: "port twice", args: attach("--api", "DIR/api", "-p", "9100:80", "-p", "127.0.0.1:9100:81", "PID"), code: failure, want: "9100"},
		{name: "privileged port", args: attach("-p", "127.0.0.1:81:80", "PID"), code: failure, want: "81"},
		{name: "port at an address of another", args: attach("-p", "192.0.2.1:0:80", "PID"), code: failure, want: "192.0.2.1"},
		{name: "port of the gateway", args: attach("-p", "0:10.0.2.2:80", "PID"), code: usage, want: "10.0.2.2"},
		{name: "port at no interface", args: attach("-p", "%none0:0:80", "PID"), code: failure, want: "none0"},
		{name: "log level", args: attach("--log-level", "loud", "PID"), code: usage, want: "loud"},
		with(mounted("mount -t tmpfs none /dev/net"), "no tun device", "/dev/net/tun"),
		with(mounted("mount --bind /etc/shadow /dev/net/tun"), "closed tun device", "chmod"),
		with(mounted("mount --bind empty /dev/net/tun"), "plain file as tun device", "make the tap"),
		with(mounted("mount --bind empty /etc/resolv.conf"), "empty resolv.conf", "--dns"),
		with(mounted("mount --bind closed /etc/resolv.conf"), "closed resolv.conf", "--dns"),
		{name: "flows of nobody", args: []string{"flows", "DIR/none"}, code: failure, want: "none"},
		{name: "flows without a socket", args: []string{"flows"}, code: usage, want: "SOCKET"},
		{name: "ports of nobody", args: []string{"ports", "DIR/none"}, code: failure, want: "none"},
		{name: "ports without a socket", args: []string{"ports"}, code: usage, want: "SOCKET"},
		{name: "ports with an unknown word", args: []string{"ports", "DIR/none", "rmadd"}, code: usage, want: "rmadd"},
		{name: "ports ls of one", args: []string{"ports", "DIR/none", "ls", "1"}, code: usage, want: "ls takes no"},
		{name: "ports add of nothing", args: []string{"ports", "DIR/none", "add"}, code: usage, want: "RULE"},
		{name: "ports add of no rule", args: []string{"ports", "DIR/none", "add", "1:1", "1:1/sctp"}, code: usage, want: "sctp"},
		{name: "ports rm of nothing", args: []string{"ports", "DIR/none", "rm"}, code: usage, want: "ID"},
		{name: "ports rm of no ID", args: []string{"ports", "DIR/none", "rm", "all"}, code: usage, want: "all"},
		{name: "ports rm of no rule", args: []string{"ports", "DIR/none", "rm", "1:70000"}, code: usage, want: "70000"},
		{name: "ports ls with --cut", args: []string{"ports", "DIR/none", "--cut"}, code: usage, want: "--cut"},
		{name: "capture of nobody", args: []string{"pcap", "DIR/none", "DIR/pcap"}, code: failure, want: "none"},
		{name: "capture without a file", args: []string{"pcap", "DIR/none"}, code: usage, want: "FILE"},
		{name: "stopped capture with a file", args: []string{"pcap", "--stop", "DIR/none", "DIR/pcap"}, code: usage, want: "--stop"},
	}
}

func TestBadInput(t *testing.T) {
	w := attachtest.Open(t)
	c := attachtest.NewContainer(t)
	c.Exec(t, "ip", "link", "add", "taken0", "type", "veth", "peer", "name", "taken1")
	before := links(t, c)
	for _, tt := range badInputs() {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			args := []string{binary(t)}
			for _, a := range tt.args {
				args = append(args, strings.ReplaceAll(strings.ReplaceAll(a, "PID", strconv.Itoa(c.PID())), "DIR", dir))
			}
			var got result
			if tt.mount != "" {
				got = runMounted(t, w, tt.mount, args)
			} else {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.ExtraFiles = []*os.File{open(t, "/etc/passwd"), open(t, dir)} // 3 and 4
				got = finish(t, cmd)
			}
			if got.code != tt.code {
				t.Errorf("exit code %d, want %d", got.code, tt.code)
			}
			if got.stdout != "" {
				t.Errorf("standard output %q, want nothing", got.stdout)
			}
			if line, rest, _ := strings.Cut(got.stderr, "\n"); rest != "" || !strings.HasPrefix(line, "slipway: ") || !strings.Contains(line, tt.want) {
				t.Errorf("standard error is not one line of slipway's with %q:\n%s", tt.want, got.stderr)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("files are left behind: %v %v", left, err)
			}
		})
	}
	if diff := cmp.Diff(before, links(t, c)); diff != "" {
		t.Errorf("interfaces of the container (-before +after):\n%s", diff)
	}
	if left := processes(t); len(left) > 0 {
		t.Errorf("processes are left behind: %q", left)
	}
}

// open opens a file until the test ends.
func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// runMounted runs a command as the plain user in the host, with other mounts: a
// shell command makes them, in a directory with the files "empty" and "closed",
// which nobody may read.
func runMounted(t *testing.T, w *attachtest.World, mount string, args []string) result {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"empty": 0o666, "closed": 0} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`cd %s && %s && exec setpriv --ambient-caps=-all --inh-caps=-all -- "$@" 2>stderr`, dir, mount)
	out, code := w.Host.Run(t, append([]string{"unshare", "--mount", "sh", "-c", script, "sh"}, args...)...)
	stderr, err := os.ReadFile(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return result{code, out, string(stderr)}
}

// TestVersion prints one line.
func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		got := slipway(t, arg)
		if got.code != 0 || !strings.HasPrefix(got.stdout, "slipway ") || strings.Count(got.stdout, "\n") != 1 {
			t.Errorf("slipway %s: exit code %d, %q", arg, got.code, got.stdout)
		}
	}
	if got := slipway(t); got.code != 2 || !strings.HasPrefix(got.stderr, "Usage: slipway") {
		t.Errorf("slipway without arguments: exit code %d, %q, want 2 and the help", got.code, got.stderr)
	}
}
