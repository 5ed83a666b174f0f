// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// lifeScenarios are about the beginning and the end.
func lifeScenarios() []scenario {
	return []scenario{
		{name: "banner", observe: func(t *testing.T, s subject) string {
			c := attachtest.NewContainer(t)
			r, w := pipe(t)
			h := s.start(t, c, []*os.File{r}, "-c", "-e", "4", "-m", "1400", "--cidr=10.9.0.0/16", "--macaddress=2:0:0:0:0:9", "--outbound-addr=10.97.0.1", "PID", "tap0")
			r.Close()
			w.Close()
			ended := h.end(t, 0)
			// What the real one buffered when it forked is there twice.
			warning := "WARNING: Support for --outbound-addr is experimental\n"
			return ended + "\n" + strings.Replace(h.stdout.String(), warning+warning, warning, 1)
		}},
		{name: "exit descriptor", observe: func(t *testing.T, s subject) string {
			c, api := attachtest.NewContainer(t), filepath.Join(t.TempDir(), "api")
			r, w := pipe(t)
			h := s.start(t, c, []*os.File{r}, "-c", "-e", "4", "-a", api, "PID", "tap0")
			r.Close()
			before := exists(api)
			w.Close()
			return fmt.Sprint(before, h.end(t, 0), exists(api), links(t, c))
		}},
		{name: "SIGINT", observe: func(t *testing.T, s subject) string {
			h := s.start(t, attachtest.NewContainer(t), nil, "-c", "PID", "tap0")
			return h.end(t, syscall.SIGINT)
		}},
		{
			name: "SIGTERM", intended: "the API socket is removed, too, when a signal ends it",
			theirs: "signal: terminated there", ours: "signal: terminated gone",
			observe: func(t *testing.T, s subject) string {
				api := filepath.Join(t.TempDir(), "api")
				h := s.start(t, attachtest.NewContainer(t), nil, "-c", "-a", api, "PID", "tap0")
				return h.end(t, syscall.SIGTERM) + " " + exists(api)
			},
		},
		{
			name: "output of one that is killed", intended: "what is written to standard output is there at once",
			theirs: "nothing", ours: "Starting slirp",
			observe: func(t *testing.T, s subject) string {
				h := s.start(t, attachtest.NewContainer(t), nil, "-c", "PID", "tap0")
				h.kill()
				if h.stdout.String() == "" {
					return "nothing"
				}
				line, _, _ := strings.Cut(h.stdout.String(), "\n")
				return line
			},
		},
		{
			name: "inherited descriptor", intended: "what it inherits besides is closed",
			theirs: "open", ours: "closed",
			observe: func(t *testing.T, s subject) string {
				r, w := pipe(t)
				s.start(t, attachtest.NewContainer(t), []*os.File{w}, "-c", "PID", "tap0")
				w.Close()
				// It was closed before the byte for which start waits.
				if err := r.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
					return "closed"
				}
				return "open"
			},
		},
		{
			name: "end of the container", intended: "ends by itself when nobody is left in the namespace",
			theirs: "goes on", ours: "exit status 0",
			observe: func(t *testing.T, s subject) string {
				c := attachtest.NewContainer(t)
				h := s.start(t, c, nil, "-c", "PID", "tap0")
				c.Close()
				if s.ours {
					return h.end(t, 0)
				}
				select {
				case <-h.ended:
					return "ended"
				case <-time.After(200 * time.Millisecond):
					return "goes on"
				}
			},
		},
		{name: "interface in use", observe: func(t *testing.T, s subject) string {
			c := attachtest.NewContainer(t)
			s.start(t, c, nil, "-c", "PID", "tap0")
			return fmt.Sprint(s.run(t, c, "-c", "PID", "tap0").code)
		}},
		{
			name: "MULTICAST flag", intended: "leaves the interface's MULTICAST flag",
			theirs: "BROADCAST,UP,LOWER_UP", ours: "BROADCAST,MULTICAST,UP,LOWER_UP",
			observe: func(t *testing.T, s subject) string {
				c := attachtest.NewContainer(t)
				s.start(t, c, nil, "-c", "PID", "tap0")
				out := c.Exec(t, "ip", "-o", "link", "show", "tap0")
				return regexp.MustCompile(`<(\S+)>`).FindStringSubmatch(out)[1]
			},
		},
		setUp("configured", "", "-c", "PID", "tap0"),
		setUp("configured with a name", "", "-c", "PID", "eth7"),
		setUp("another network", "", "-c", "--cidr=172.31.128.0/17", "PID", "tap0"),
		setUp("the widest network", "", "-c", "--cidr=64.0.0.0/2", "PID", "tap0"),
		setUp("MTU", "", "-cm1400", "PID", "tap0"),
		setUp("largest MTU", "", "-c", "--mtu", "65521", "PID", "tap0"),
		setUp("MAC", "", "-c", "--macaddress=2:0:0:0:0:9", "PID", "tap0"),
		{
			name: "MAC with dashes", intended: "`--macaddress` with dashes is that address",
			theirs: "02:00:00:00:00:00", ours: "02:00:00:00:00:0a",
			observe: func(t *testing.T, s subject) string {
				c := attachtest.NewContainer(t)
				s.start(t, c, nil, "-c", "--macaddress=02-00-00-00-00-0A", "PID", "tap0")
				return regexp.MustCompile(`ether (\S+)`).FindStringSubmatch(c.Exec(t, "ip", "-o", "link", "show", "tap0"))[1]
			},
		},
		setUp("options behind", "", "PID", "tap0", "--configure", "--mt=1300"),
		setUp("by path", "", "-c", "--netns-type=path", "--userns-path=/proc/PID/ns/user", "/proc/PID/ns/net", "tap0"),
		{name: "all of Podman's", observe: func(t *testing.T, s subject) string {
			c, _, _ := asPodman(t, s)
			return addresses(t, c)
		}},
		{
			name: "sandbox", intended: "under `--enable-sandbox` it keeps CAP_NET_ADMIN besides CAP_NET_BIND_SERVICE",
			theirs:  "CapPrm: 0000000000000400 CapEff: 0000000000000400 CapBnd: 0000000000000400 NoNewPrivs: 1 Seccomp: 2",
			ours:    "CapPrm: 0000000000001400 CapEff: 0000000000001400 CapBnd: 0000000000001400 NoNewPrivs: 1 Seccomp: 2",
			observe: confined,
		},
		{
			name: "SIGTERM in the sandbox", intended: "the API socket is removed, too, when a signal ends it",
			theirs: "there 143 there", ours: "there 143 gone",
			observe: func(t *testing.T, s subject) string {
				_, dir, p := asPodman(t, s)
				api := filepath.Join(dir, "api")
				before := exists(api)
				if err := syscall.Kill(pidOf(t, dir), syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				return fmt.Sprint(before, " ", p.Wait(t), " ", exists(api))
			},
		},
		setUp("not configured", "", "--mtu=1400", "PID", "tap0"),
		setUp("taken over", "ip tuntap add name tap0 mode tap; ip link set tap0 up", "-r", "3", "--mtu", "65520", "PID", "tap0"),
		setUp("taken over and configured", "ip tuntap add name tap0 mode tap; ip link set tap0 up", "-c", "--mtu", "4000", "PID", "tap0"),
		{
			name: "by path alone", intended: "needs no `--userns-path`",
			theirs: "exit status 1", ours: "ready",
			observe: func(t *testing.T, s subject) string {
				c := attachtest.NewContainer(t)
				args := []string{"-c", "--netns-type=path", "/proc/PID/ns/net", "tap0"}
				if s.ours {
					s.start(t, c, nil, args...)
					return "ready"
				}
				return fmt.Sprintf("exit status %d", s.run(t, c, args...).code)
			},
		},
	}
}

// setUp is what there is to see of a container's interfaces, after a shell command was
// run there before.
func setUp(name, before string, args ...string) scenario {
	return scenario{name: name, observe: func(t *testing.T, s subject) string {
		c := attachtest.NewContainer(t)
		if before != "" {
			c.Exec(t, "sh", "-c", before)
		}
		s.start(t, c, nil, args...)
		return addresses(t, c)
	}}
}

// addresses is how a container's interfaces are set up, but for what is random or is
// ours on purpose: a hardware address that nobody chose has no such zeros.
func addresses(t *testing.T, c *attachtest.Place) string {
	t.Helper()
	out := c.Exec(t, "sh", "-c", "ip -o -4 addr; ip -4 route; ip -o link")
	return regexp.MustCompile(`,?MULTICAST|ether \S+|qlen \d+`).ReplaceAllStringFunc(out, func(s string) string {
		if strings.HasPrefix(s, "ether 02:00:00:") {
			return s
		}
		return ""
	})
}

// asPodman runs the subject as Podman does: as root of a user namespace, with a network
// namespace below that, and all flags. It returns the namespace and a directory that
// has the subject's process id in the file pid and its API socket, api.
func asPodman(t *testing.T, s subject) (c *attachtest.Place, dir string, p *attachtest.Process) {
	t.Helper()
	user := attachtest.NewContainer(t)
	c, dir = user.Split(t), t.TempDir()
	script := `cd "$1" && shift && echo $$ >pid && mkfifo ready && exec "$@" 3>ready`
	p = user.Start(t, "sh", "-c", script, "sh", dir, s.path, "--disable-host-loopback", "--mtu=65520", "--enable-sandbox", "--enable-seccomp",
		"-c", "-r", "3", "--api-socket", filepath.Join(dir, "api"), "--netns-type=path", c.NetNSPath(), "tap0")
	t.Cleanup(p.Kill)
	if said := readFIFO(t, filepath.Join(dir, "ready")); said != "1" {
		t.Fatalf("the ready descriptor gave %q", said)
	}
	return c, dir, p
}

// pidOf reads the process id in asPodman's directory.
func pidOf(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// confined is what the kernel says of a subject that is confined.
func confined(t *testing.T, s subject) string {
	_, dir, _ := asPodman(t, s)
	return kernelSays(t, strconv.Itoa(pidOf(t, dir)))
}

// kernelSays is what the kernel says of how a process is confined.
func kernelSays(t *testing.T, pid string) string {
	t.Helper()
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):.*$`).FindAllString(string(status), -1)
	return strings.Join(strings.Fields(strings.Join(lines, " ")), " ")
}

// pipe returns a pipe that is closed at the test's end.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}
