// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// A confinement is a helper with a file system of the test's own, whose resolv.conf is
// a link, and what is to be in force.
type confinement struct {
	name  string
	caps  string
	root  bool   // it gets an empty root
	rooms string // prefix of the command that gives it its rights; PID is the container's process
	place func(*testing.T, *attachtest.World) *attachtest.Place
}

func confinements() []confinement {
	fresh := func(t *testing.T, _ *attachtest.World) *attachtest.Place { return attachtest.NewContainer(t) }
	split := func(t *testing.T, w *attachtest.World) *attachtest.Place { return w.Host.Split(t) }
	return []confinement{
		{"its owner, outside", noCaps, false, "setpriv --ambient-caps=-all --inh-caps=-all --", fresh},
		{"its root, inside", netAdmin, true, "nsenter --user --preserve-credentials --target PID", fresh},
		{"privileged in the host's", netAdmin, true, "", split},
	}
}

// A cell is a running helper of a confinement.
type cell struct {
	running
	proc *attachtest.Process
	dir  string // has etc and run as the helper sees them
	api  string
}

// start starts the helper, for the target.
func (cf confinement) start(t *testing.T, w *attachtest.World, c *attachtest.Place, target string) *cell {
	t.Helper()
	h := &cell{dir: t.TempDir()}
	h.api = filepath.Join(h.dir, "run", "api.sock")
	for _, dir := range []string{"etc", "run/resolve"} {
		if err := os.MkdirAll(filepath.Join(h.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../run/resolve/servers.conf", filepath.Join(h.dir, "etc", "resolv.conf")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"etc/secret": "", "run/resolve/servers.conf": fmt.Sprintln("nameserver", attachtest.Families()[0].PeerAddr),
	} {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := `mount --bind "$1/etc" /etc && mount --bind "$1/run" /run && cd /run && echo started $$ && shift && exec "$@"`
	argv := []string{"unshare", "--mount", "sh", "-c", script, "sh", h.dir}
	argv = append(argv, strings.Fields(strings.ReplaceAll(cf.rooms, "PID", strconv.Itoa(c.PID())))...)
	argv = append(argv, binary(t), "attach", "--api", "api.sock", "--pidfile", "/run/pid", target)
	h.proc, h.log = w.Host.Start(t, argv...), newLines()
	line := h.proc.WaitLine(t, "started")
	if _, err := fmt.Sscanf(line, "started %d", &h.pid); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(h.log, h.proc.Out) // its end is the process'
	}()
	h.ends = func(t *testing.T) {
		t.Helper()
		<-ended
		if code := h.proc.Wait(t); code != 0 {
			t.Errorf("exit code %d, want 0:\n%s", code, h.log)
		}
	}
	h.log.wait(t, "attached", "path=spliced")
	return h
}

// TestSandbox has all parts of the sandbox in force that a helper's rights allow, and
// the spliced path and everything else work in it, until the end.
func TestSandbox(t *testing.T) {
	attachtest.NeedTools(t, "dig", "ping", "nsenter", "setpriv", "find")
	for _, cf := range confinements() {
		t.Run(cf.name, func(t *testing.T) {
			w := attachtest.Open(t)
			w.Peer.ServeDNS(t, netip.AddrPortFrom(attachtest.Families()[1].PeerAddr, 53))
			c := cf.place(t, w)
			h := cf.start(t, w, c, c.NetNSPath())
			h.powers(t, cf.caps)
			inForce := map[bool]string{true: `"empty root"=yes`, false: `"empty root"="no: this takes CAP_SYS_ADMIN`}[cf.root]
			h.log.wait(t, "sandbox", inForce, `landlock="version `, `seccomp="`)
			if b, err := os.ReadFile(filepath.Join(h.dir, "run", "pid")); err != nil || string(b) != fmt.Sprintln(h.pid) {
				t.Errorf("the pidfile has %q, error %v, and the process that was started is %d", b, err, h.pid)
			}
			if cf.root {
				h.roots(t, w)
			}
			h.works(t, w, c)
			h.resolves(t, c)
			if cf.root {
				c.Close() // the namespace ends
			} else if err := syscall.Kill(h.pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			h.ends(t)
			if left, err := filepath.Glob(filepath.Join(h.dir, "run", "*")); err != nil || len(left) != 1 {
				t.Errorf("what is left in /run: %q, error %v, want the resolver's directory only", left, err)
			}
			if log := h.log.String(); strings.Contains(log, "level=ERROR") || strings.Count(log, "level=WARN") > 1 {
				t.Errorf("the log has more warnings than that the first resolver failed:\n%s", log)
			}
		})
	}
}

// roots lists what the helper sees.
func (h *cell) roots(t *testing.T, w *attachtest.World) {
	t.Helper()
	root := fmt.Sprintf("/proc/%d/root", h.pid)
	out := w.Host.Exec(t, "sh", "-c", `cd "$1" && find . | sort`, "sh", root)
	want := []string{".", "./etc", "./etc/resolv.conf", "./run", "./run/api.sock", "./run/pid", "./run/resolve", "./run/resolve/servers.conf"}
	if diff := cmp.Diff(want, strings.Fields(out)); diff != "" {
		t.Errorf("the root (-want +got):\n%s", diff)
	}
	for _, ns := range []string{"net", "pid", "user"} { // those it keeps
		own := fmt.Sprintf("/proc/%d/ns/%s", h.pid, ns)
		out := w.Host.Exec(t, "sh", "-c", `for t in /proc/$1/task/*/ns/mnt; do readlink "$t"; done | sort -u | wc -l; readlink "$2" > /dev/null`, "sh", strconv.Itoa(h.pid), own)
		if strings.TrimSpace(out) != "1" {
			t.Errorf("the threads are in %s mount namespaces", strings.TrimSpace(out))
		}
	}
}

// works sends traffic of each kind, and asks for flows.
func (h *cell) works(t *testing.T, w *attachtest.World, c *attachtest.Place) {
	t.Helper()
	for _, f := range attachtest.Families() {
		h.log.wait(t, "TCP is spliced", f.Name)
		l := w.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		conn, err := c.Dial(t, "tcp", netip.MustParseAddrPort(l.Addr().String()))
		if err != nil {
			t.Fatal(err)
		}
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		data := randomData(4 << 20)
		for _, way := range [][2]interface {
			io.ReadWriter
			SetDeadline(time.Time) error
		}{{conn, peer}, {peer, conn}} {
			transfer(t, way[0], way[1], data)
		}
		got := slipway(t, "flows", h.api)
		if got.code != 0 || !hasAll(got.stdout, []string{"spliced", l.Addr().String()}) {
			t.Errorf("%s: slipway flows: exit code %d:\n%s%s", f.Name, got.code, got.stdout, got.stderr)
		}
		echo := w.Peer.ListenPacket(t, netip.AddrPortFrom(f.PeerAddr, 0))
		udp, err := c.Dial(t, "udp", netip.MustParseAddrPort(echo.LocalAddr().String()))
		if err != nil {
			t.Fatal(err)
		}
		transfer(t, udp, echo, []byte("datagram"))
		c.Exec(t, "ping", "-n", "-c", "1", "-W", "20", f.PeerAddr.String())
	}
	if err := syscall.Kill(h.pid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	h.log.wait(t, "msg=counter", "name=flows_tcp")
}

// transfer writes the data at one end and reads it at the other.
func transfer(t *testing.T, from io.Writer, to interface {
	io.Reader
	SetDeadline(time.Time) error
}, data []byte) {
	t.Helper()
	wrote := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		wrote <- err
	}()
	if err := to.SetDeadline(time.Now().Add(attachtest.Patience)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != string(data) {
		t.Errorf("of %d bytes came what differs, or not all: %v", len(data), err)
	}
	if err := <-wrote; err != nil {
		t.Errorf("write %d bytes: %v", len(data), err)
	}
}

// resolves has no answer, then puts another file in the place of that which
// resolv.conf leads to, and waits for the answers of its resolver: by UDP and by TCP,
// which is stacked.
func (h *cell) resolves(t *testing.T, c *attachtest.Place) {
	t.Helper()
	ask := func(args ...string) string {
		out, _ := c.Run(t, append([]string{"dig", "+tries=1", "+timeout=10", "@10.0.2.3", "TXT", "short.example."}, args...)...)
		return out
	}
	if out := ask(); !strings.Contains(out, "SERVFAIL") {
		t.Errorf("without a resolver that answers, want SERVFAIL:\n%s", out)
	}
	servers := filepath.Join(h.dir, "run", "resolve", "servers.conf")
	if err := os.WriteFile(servers+".new", []byte(fmt.Sprintln("nameserver", attachtest.Families()[1].PeerAddr)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(servers+".new", servers); err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(attachtest.Patience); !strings.Contains(ask(), `"by udp"`); {
		if time.Now().After(late) {
			t.Fatal("the new resolver is not asked")
		}
	}
	if out := ask("+tcp"); !strings.Contains(out, `"by tcp"`) {
		t.Errorf("by TCP:\n%s", out)
	}
}

// TestSandboxPath has the helper see, in its empty root, the end of a namespace that a
// path names.
func TestSandboxPath(t *testing.T) {
	attachtest.NeedTools(t, "unshare", "mkfifo")
	w := attachtest.Open(t)
	dir := t.TempDir()
	script := `mount -t tmpfs none /run && mkdir /run/netns && touch /run/netns/one && mkfifo "$2/end" && unshare --net=/run/netns/one true &&
		{ "$1" attach /run/netns/one & cat "$2/end" && ls "/proc/$!/root/run" && umount /run/netns/one && rm /run/netns/one; wait $!; }`
	p := w.Host.Start(t, "unshare", "--mount", "sh", "-c", script, "sh", binary(t), dir)
	p.WaitLine(t, `"empty root"=yes`)
	p.WaitLine(t, "attached")
	if err := os.WriteFile(filepath.Join(dir, "end"), nil, 0); err != nil {
		t.Fatal(err)
	}
	p.WaitLine(t, "netns")
	p.WaitLine(t, "the namespace is gone")
	if code := p.Wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// TestSandboxOff leaves the helper with its capabilities given up, and no more.
func TestSandboxOff(t *testing.T) {
	attachtest.Open(t)
	c := attachtest.NewContainer(t)
	h := attachTo(t, c, "--sandbox", "off")
	h.stderr.wait(t, "sandbox", `"empty root"="no: switched off"`, `landlock="no: switched off"`, `seccomp="no: switched off"`)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil || !hasAll(string(b), []string{"NoNewPrivs:\t1", "Seccomp:\t0", "CapPrm:\t" + noCaps}) {
		t.Errorf("error %v, status:\n%s", err, b)
	}
	if got := slipway(t, "attach", "--sandbox", "on", strconv.Itoa(c.PID())); got.code != 2 || !strings.Contains(got.stderr, "--sandbox") {
		t.Errorf("--sandbox on: exit code %d: %s", got.code, got.stderr)
	}
}

// TestSandboxLowPort has the helper say, from within, who may have a port.
func TestSandboxLowPort(t *testing.T) {
	w := attachtest.Open(t)
	h := attachAPI(t)
	start := "/proc/sys/net/ipv4/ip_unprivileged_port_start"
	before := w.Host.Exec(t, "cat", start)
	set := func(value string) { w.Host.Exec(t, "sh", "-c", `echo "$1" > "$2"`, "sh", value, start) }
	defer set(before)
	set("100")
	got := slipway(t, "ports", h.api, "add", "127.0.0.1:99:80")
	if got.code != 1 || !hasAll(got.stderr, []string{"below 100:", "ip_unprivileged_port_start=99", binary(t)}) {
		t.Errorf("ports add: exit code %d: %s", got.code, got.stderr)
	}
}
