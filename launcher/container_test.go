// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher"
)

func TestExitCode(t *testing.T) {
	tests := []struct {
		name string
		cfg  launcher.Config
		code int
		err  string // in the error, if there is to be one
	}{
		{name: "zero", cfg: sh("exit 0")},
		{name: "number", cfg: sh("exit 42"), code: 42},
		{name: "signal", cfg: sh("kill -9 $$"), code: 137},
		{name: "by path", cfg: launcher.Config{Args: []string{"true"}}},
		{name: "not found", cfg: launcher.Config{Args: []string{"no-such-command"}}, code: 127, err: "no-such-command: command not found"},
		{name: "no such file", cfg: launcher.Config{Args: []string{"/no/such"}}, code: 127, err: "/no/such: not found"},
		{name: "plain file", cfg: launcher.Config{Args: []string{"/etc/passwd"}}, code: 126, err: "/etc/passwd: not executable"},
		{name: "directory", cfg: launcher.Config{Args: []string{"/usr"}}, code: 126, err: "/usr: not executable"},
		{name: "no such directory", cfg: launcher.Config{Args: []string{"true"}, Workdir: "/no/such"}, code: 125, err: `enter working directory "/no/such"`},
		{name: "directory through a descriptor", cfg: launcher.Config{Args: []string{"true"}, Workdir: "/proc/self/fd/3"}, code: 125, err: "enter working directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := run(t, tt.cfg)
			if o.code != tt.code {
				t.Errorf("code %d, want %d", o.code, tt.code)
			}
			switch {
			case tt.err == "" && o.err != nil:
				t.Errorf("error %v", o.err)
			case tt.err != "" && (o.err == nil || !strings.Contains(o.err.Error(), tt.err)):
				t.Errorf("error %v, want one with %q", o.err, tt.err)
			case o.err != nil && strings.Contains(o.err.Error(), "\n"):
				t.Errorf("error %q has more than one line", o.err)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	c := sh("env | sort; pwd; hostname; id -u")
	c.Env, c.Workdir, c.Hostname = []string{"A=b c", "HOME=/h"}, "/usr/bin", "box"
	want := "A=b c\nHOME=/h\nHOSTNAME=box\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/usr/bin\ncontainer=slipway\n/usr/bin\nbox\n0"
	if diff := cmp.Diff(want, run(t, c).must(t)); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

// TestRoot writes all over the container's root, by both ways of mounting.
func TestRoot(t *testing.T) {
	for name, make := range map[string]func(launcher.Config) (*launcher.Container, error){"fsopen": launcher.New, "mount": launcher.NewLegacy} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range []string{"kept", "gone", "sub/gone"} {
				p := filepath.Join(dir, f)
				if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, []byte("host"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			before := mounts(t)
			mark := "launcher-test-mark"
			c := sh(`set -e
				echo container > kept; rm gone; rm -r sub; mkdir new; cat kept
				for d in / /etc /usr /root /tmp /run /var; do echo x > $d/` + mark + `; done
				rm /etc/passwd; ! test -e /etc/passwd`)
			c.Workdir = dir
			if got := runWith(t, c, make).must(t); got != "container" {
				t.Errorf("the container reads %q back", got)
			}
			for _, f := range []string{"kept", "gone", "sub/gone"} {
				if b, err := os.ReadFile(filepath.Join(dir, f)); err != nil || string(b) != "host" {
					t.Errorf("%s on the host is %q (%v)", f, b, err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "new")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a directory of the container is on the host: %v", err)
			}
			for _, d := range []string{"/", "/etc", "/usr", "/tmp", "/run", "/var"} {
				if _, err := os.Stat(filepath.Join(d, mark)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a file of the container is in %s: %v", d, err)
				}
			}
			if diff := cmp.Diff(before, mounts(t)); diff != "" {
				t.Errorf("the host's mounts (-before +after):\n%s", diff)
			}
		})
	}
}

// TestMountBelow runs a container in a mount namespace with a mount in the middle
// of a directory, which overlayfs refuses to have below it.
func TestMountBelow(t *testing.T) {
	needNamespaces(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{"beside", "mounted"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const inside = `cd "$1" && cat file mounted/in && echo x > beside/new && echo y > mounted/new && rm mounted/in && cat beside/new mounted/new`
	const outside = `mount -t tmpfs x "$1/mounted" && echo in > "$1/mounted/in" &&
		"$0" ` + roleSupervise + ` sh -c "$2" sh "$1" && ls "$1/beside" "$1/mounted"`
	out, err := exec.CommandContext(t.Context(), "unshare", "-Urm", "sh", "-c", outside, self, dir, inside).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := "file\nin\nx\ny\n" + dir + "/beside:\n\n" + dir + "/mounted:\nin\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestResolver(t *testing.T) {
	c := sh("cat /etc/resolv.conf; tail -n 2 /etc/hosts; cat /etc/hostname; echo more >> /etc/hosts")
	c.Net, c.Hostname = launcher.NetPrivate, "box"
	c.Session = func(int) (launcher.Network, error) { return &fakeNet{}, nil }
	c.DNS = []netip.Addr{netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("fd00::3")}
	c.ContainerAddrs = []netip.Addr{netip.MustParseAddr("10.0.2.100"), netip.MustParseAddr("fd00::100")}
	c.Search = []string{"example.org"}
	want := "nameserver 10.0.2.3\nnameserver fd00::3\nsearch example.org\n10.0.2.100\tbox\nfd00::100\tbox\nbox"
	if diff := cmp.Diff(want, run(t, c).must(t)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestProcAndDev(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"own processes alone", `cd /proc; n=0; for p in [0-9]*; do n=$((n+1)); done; echo $n`, "2"},
		{"parent", "echo $PPID", "1"},
		{"devices", "cd /dev; for d in null zero full random urandom tty; do stat -c '%n %t,%T' $d; done",
			"null 1,3\nzero 1,5\nfull 1,7\nrandom 1,8\nurandom 1,9\ntty 5,0"},
		{"links", "cd /dev; readlink fd stdin stdout stderr ptmx", "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx"},
		{"nothing else in dev", "cd /dev; ls -d * | grep -vx net | tr '\\n' ' '", "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "},
		{"null takes writes", "echo x > /dev/null && head -c 3 /dev/zero | wc -c", "3"},
		{"shm", "echo x > /dev/shm/f && cat /dev/shm/f", "x"},
		{"sysctls are read-only", "echo 1 2> /dev/null > /proc/sys/net/ipv4/ip_forward || echo refused", "refused"},
		{"sys is read-only", "echo 1 2> /dev/null > /sys/class/net/lo/mtu || echo refused", "refused"},
		{"masked", "wc -c < /proc/keys; wc -c < /proc/timer_list; ls /sys/firmware | wc -l", "0\n0\n0"},
		{"ping without a capability", "cat /proc/sys/net/ipv4/ping_group_range", "0\t0"},
		{"own interfaces", "ls /sys/class/net", "lo"},
		{"loopback", "cat /sys/class/net/lo/carrier", "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, run(t, sh(tt.script)).must(t)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrivileges(t *testing.T) {
	const defaultSet = "00000000800425fb"
	want := "CapInh:\t0000000000000000\nCapPrm:\t" + defaultSet + "\nCapEff:\t" + defaultSet + "\nCapBnd:\t" + defaultSet +
		"\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1"
	if diff := cmp.Diff(want, run(t, sh("grep -e ^Cap -e NoNewPrivs /proc/self/status")).must(t)); diff != "" {
		t.Errorf("status of the command (-want +got):\n%s", diff)
	}
	got := run(t, sh(`cat /proc/1/environ /proc/1/maps 2>&1 | grep -c denied; readlink /proc/1/exe || echo refused
		for fd in /proc/1/fd/*; do readlink $fd; done; echo end`)).must(t)
	if diff := cmp.Diff("2\nrefused\nend", got); diff != "" {
		t.Errorf("what pid 1 gives away (-want +got):\n%s", diff)
	}
}

// TestBinaryIsSealed makes a container, and a command that joins one, execute the
// launcher's binary through /proc/self/exe, and looks whether it could be written. It
// belongs to the user, who is root in there, even where it is not writable yet.
func TestBinaryIsSealed(t *testing.T) {
	needNamespaces(t)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o755, 0o555} {
		own := filepath.Join(t.TempDir(), "launcher")
		if err := os.WriteFile(own, self, mode); err != nil {
			t.Fatal(err)
		}
		for role, want := range map[string]string{roleSupervise: "EROFS", roleExec: "EPERM"} {
			// A race detector, if there is one, says on standard error that a stage which
			// is not in the container's pid namespace has no /proc/self there.
			out, err := exec.Command(own, role, "/proc/self/exe", roleWriteSelf).Output()
			if got := strings.TrimSpace(string(out)); got != want {
				t.Errorf("%s with mode %o: %q (%v), want %s", role, mode, got, err, want)
			}
		}
	}
}

func TestHostSocketIsOutOfReach(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if o := run(t, launcher.Config{Args: []string{self, roleConnect, path}}); strings.TrimSpace(o.stdout) != "ECONNREFUSED" {
		t.Errorf("connecting to a socket of the host: %q (code %d, error %v), want ECONNREFUSED", o.stdout, o.code, o.err)
	}
}

func TestDescriptors(t *testing.T) {
	null, err := unix.Open("/dev/null", unix.O_RDONLY, 0) // inheritable on purpose
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	// The shell opens the directory at 3 to list it.
	if got := run(t, sh("cd /proc/self/fd; echo *")).must(t); got != "0 1 2 3" {
		t.Errorf("descriptors %q, want 0 1 2 and the directory's", got)
	}
}

func TestReaping(t *testing.T) {
	o := run(t, sh(`i=0
		while [ $i -lt 20 ]; do sh -c 'sh -c : & exec true'; i=$((i+1)); done
		while cat /proc/[0-9]*/stat 2> /dev/null | grep -q ') Z '; do :; done; echo none`))
	if got := o.must(t); got != "none" {
		t.Errorf("output %q", got)
	}
}

func TestStdin(t *testing.T) {
	const size = 10 << 20
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * i >> 8)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		_, _ = w.Write(data)
		w.Close()
	}()
	c := sh("cat | sha256sum")
	c.Stdin = r
	if got, want := run(t, c).must(t), fmt.Sprintf("%x  -", sha256.Sum256(data)); got != want {
		t.Errorf("sum %s, want %s", got, want)
	}
}

func TestSignal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := sh(`trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.01; done`)
	c.Stdout = w
	go func() {
		buf := make([]byte, len("ready\n"))
		if _, err := r.Read(buf); err == nil {
			_ = unix.Kill(os.Getpid(), unix.SIGUSR1)
		}
	}()
	o := run(t, c)
	w.Close()
	if o.code != 5 || o.err != nil {
		t.Errorf("code %d, error %v, want 5", o.code, o.err)
	}
}

func TestCancel(t *testing.T) {
	needNamespaces(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := sh("echo ready; exec sleep 1000")
	c.Net, c.Stdout = launcher.NetNone, w
	ct, err := launcher.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = r.Read(make([]byte, 1))
		cancel()
	}()
	if code, err := ct.Run(ctx); code != 128+int(unix.SIGTERM) || err != nil {
		t.Errorf("code %d, error %v, want 143", code, err)
	}
}

// TestSupervisorDies kills the supervisor and waits until the last process that
// has the container's output open is gone.
func TestSupervisorDies(t *testing.T) {
	needNamespaces(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(self, roleSupervise, "sh", "-c", "setsid sleep 1000 & echo ready; sleep 1000")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len("ready\n"))
	if _, err := r.Read(buf); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"
	if n, err := r.Read(buf); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v, want the end: a process outlived the supervisor", n, err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	run(t, sh("exit 0")) // what is made once and kept
	before := left(t)
	for range 5 {
		run(t, sh("sleep 1000 & exit 3"))
		run(t, launcher.Config{Args: []string{"no-such-command"}})
	}
	after := left(t)
	// A goroutine that has done its last, of these runs or of the first, may not
	// have left yet.
	for end := time.Now().Add(patience); after["goroutines"] > before["goroutines"] && time.Now().Before(end); {
		runtime.Gosched()
		after = left(t)
	}
	after["goroutines"] = max(after["goroutines"], before["goroutines"])
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("descriptors, goroutines, children (-before +after):\n%s", diff)
	}
}

// left counts what a container could leave in this process.
func left(t *testing.T) map[string]int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	children := 1
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); errors.Is(err, syscall.ECHILD) {
		children = 0
	}
	return map[string]int{"descriptors": len(fds), "goroutines": runtime.NumGoroutine(), "children": children}
}

func mounts(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
