// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher"
)

// The tests here are of images and volumes that are made to lead the launcher astray.
// docs/sandbox.md has the vulnerabilities of other runtimes that each stands for.

// hostileRoot is imageRoot with one of its paths replaced by a link.
func hostileRoot(t *testing.T, link, target string) string {
	t.Helper()
	dir := imageRoot(t)
	at := filepath.Join(dir, link)
	if err := os.RemoveAll(at); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, at); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestLinkedKernelDirectories has links in the image where the kernel's file systems go.
func TestLinkedKernelDirectories(t *testing.T) {
	for _, dir := range []string{"proc", "sys", "dev"} {
		t.Run(dir, func(t *testing.T) {
			target := t.TempDir()
			c := sh("echo started")
			c.Root.Lowers, c.Mounts = []string{hostileRoot(t, dir, target)}, []launcher.Mount{hostPrograms()}
			o := run(t, c)
			if o.code != 125 || o.err == nil || !strings.Contains(o.err.Error(), "/"+dir) || o.stdout != "" {
				t.Errorf("code %d, error %v, output %q: want that /%s is refused", o.code, o.err, o.stdout, dir)
			}
			if entries, err := os.ReadDir(target); err != nil || len(entries) > 0 {
				t.Errorf("the link's target on the host has %v (%v)", entries, err)
			}
		})
	}
}

// TestVolumePlaces asks for volumes where none may be, by name and through links.
func TestVolumePlaces(t *testing.T) {
	source := t.TempDir()
	for _, at := range []string{"/proc", "/proc/sys/kernel", "/sys", "/sys/kernel", "/dev", "/", "/proc/../proc/self", "relative"} {
		c := sh("true")
		c.Net = launcher.NetNone
		c.Mounts = []launcher.Mount{{Kind: launcher.MountBind, Source: source, Destination: at}}
		if _, err := launcher.New(c); !errors.Is(err, launcher.ErrUsage) {
			t.Errorf("a volume at %s: error %v, want ErrUsage", at, err)
		}
	}
	for _, target := range []string{"/proc", "/sys/kernel", "../proc/self"} {
		c := sh("echo started")
		c.Root.Lowers = []string{hostileRoot(t, "data/link", target)}
		c.Mounts = []launcher.Mount{hostPrograms(), {Kind: launcher.MountBind, Source: source, Destination: "/data/link"}}
		o := run(t, c)
		if o.code != 125 || o.err == nil || !strings.Contains(o.err.Error(), "a volume cannot be in /proc or /sys") || o.stdout != "" {
			t.Errorf("through a link to %s: code %d, error %v, output %q", target, o.code, o.err, o.stdout)
		}
	}
}

// TestVolumeLinks mounts a volume, and makes its directory, through links that would
// lead out of the root if they were resolved on the host.
func TestVolumeLinks(t *testing.T) {
	outside, source := t.TempDir(), t.TempDir()
	write(t, filepath.Join(source, "file"), "volume\n")
	for _, target := range []string{outside, "../../../../../.." + outside} {
		c := sh("cat /data/link/sub/dir/file " + outside + "/sub/dir/file")
		c.Root.Lowers = []string{hostileRoot(t, "data/link", target)}
		if err := os.MkdirAll(filepath.Join(c.Root.Lowers[0], outside), 0o755); err != nil {
			t.Fatal(err)
		}
		c.Mounts = []launcher.Mount{hostPrograms(), {Kind: launcher.MountBind, Source: source, Destination: "/data/link/sub/dir"}}
		if got := run(t, c).must(t); got != "volume\nvolume" {
			t.Errorf("link to %s: the container reads %q", target, got)
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
			t.Errorf("link to %s: the host's directory has %v (%v)", target, entries, err)
		}
	}
}

// TestMasksCoverWithTheHostsNull has a null device in the image that is none.
func TestMasksCoverWithTheHostsNull(t *testing.T) {
	c := sh("stat -c '%F %t,%T' /proc/keys /dev/null; cat /proc/keys; ls /sys/firmware")
	c.Root.Lowers, c.Mounts = []string{hostileRoot(t, "dev/null", "/etc/passwd")}, []launcher.Mount{hostPrograms()}
	want := "character special file 1,3\ncharacter special file 1,3"
	if diff := cmp.Diff(want, run(t, c).must(t)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// TestHostilePasswd has user files in the image that nobody should read.
func TestHostilePasswd(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, file string)
		want string // in the output, or the error
		code int
	}{
		{"pipe", func(t *testing.T, file string) {
			if err := unix.Mkfifo(file, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file", 125},
		{"directory", func(t *testing.T, file string) {
			if err := os.Mkdir(file, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file", 125},
		{"link to a host's file", func(t *testing.T, file string) {
			host := filepath.Join(t.TempDir(), "passwd")
			write(t, host, "web:x:77:77::/:/bin/sh\n")
			if err := os.Symlink(host, file); err != nil {
				t.Fatal(err)
			}
		}, `user "web"`, 125}, // it leads nowhere in the container
		{"user behind the limit", func(t *testing.T, file string) {
			write(t, file, strings.Repeat("#"+strings.Repeat("x", 1023)+"\n", 1024)+"web:x:77:77::/:/bin/sh\n")
		}, `user "web"`, 125},
		{"id that changes nothing", func(t *testing.T, file string) { write(t, file, "web:x:4294967295:0::/:/bin/sh\n") }, "id 4294967295", 125},
		{"id that is cut off", func(t *testing.T, file string) { write(t, file, "web:x:0:4294967296::/:/bin/sh\n") }, "id 4294967296", 125},
		{"nothing but noise", func(t *testing.T, file string) { write(t, file, "::::\n:x:-1:\x00:\n\n"+strings.Repeat("a:", 5000)) }, `user "web"`, 125},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := imageConfig(t, "id -u")
			c.User = "web"
			file := filepath.Join(c.Root.Lowers[0], "etc/passwd")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			tt.make(t, file)
			o := run(t, c)
			if o.code != tt.code || o.err == nil || !strings.Contains(o.err.Error(), tt.want) {
				t.Errorf("code %d, error %v, output %q, want %d and %q", o.code, o.err, o.stdout, tt.code, tt.want)
			}
		})
	}
}

// TestScriptOfTheLauncher makes the launcher's own binary the interpreter of the command:
// it must neither become the container's to write nor do anything there.
func TestScriptOfTheLauncher(t *testing.T) {
	c := imageConfig(t, "")
	script := filepath.Join(c.Root.Lowers[0], "data/script")
	if err := os.WriteFile(script, []byte("#!/proc/self/exe "+roleWriteSelf+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.Args = []string{"/data/script"}
	if o := run(t, c); o.err == nil && strings.TrimSpace(o.stdout) != "EROFS" && strings.TrimSpace(o.stdout) != "EACCES" && o.code == 0 {
		t.Errorf("the script ran: code %d, output %q", o.code, o.stdout)
	}
}

// TestInitWithoutCapabilities keeps pid 1 ours for a command that has no right to signal,
// and signals it.
func TestInitWithoutCapabilities(t *testing.T) {
	yes := true
	c := imageConfig(t, "grep CapEff /proc/self/status | cut -f 2; id -u; echo $$ | grep -vx 1 > /dev/null && kill -TERM $$; sleep 1000")
	c.IDs, c.User, c.Init, c.CapDrop = defaultIDs(t), "web", &yes, []string{"ALL"}
	o := run(t, c)
	if o.code != 128+int(unix.SIGTERM) || o.err != nil || o.stdout != "0000000000000000\n33\n" {
		t.Errorf("code %d, error %v, output %q", o.code, o.err, o.stdout)
	}
}

// TestInitIsConfined looks at every thread of pid 1, where that is ours: none may be a way
// around what the command may not do, to whom it is given to trace others, from its first
// moment on.
func TestInitIsConfined(t *testing.T) {
	yes := true
	c := sh(`cat /proc/1/task/*/status | grep -E "^(NoNewPrivs|Seccomp:)" | cut -f 2 | sort -u`)
	c.Init, c.CapAdd = &yes, []string{"CAP_SYS_PTRACE"}
	if o := run(t, c); o.err != nil || o.stdout != "1\n2\n" {
		t.Errorf("code %d, error %v, output %q", o.code, o.err, o.stdout)
	}
}

// TestControlGroupsAreHidden looks at what the container sees and may change of the
// host's control groups.
func TestControlGroupsAreHidden(t *testing.T) {
	const script = `cut -d: -f3 /proc/self/cgroup | sort -u; mkdir /sys/fs/cgroup/x 2> /dev/null || echo refused`
	if diff := cmp.Diff("/\nrefused", run(t, imageConfig(t, script)).must(t)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// TestReadOnlyVolumeIsSoAllTheWayDown writes to what is mounted below a read-only
// volume: within /dev there always is something that can be written.
func TestReadOnlyVolumeIsSoAllTheWayDown(t *testing.T) {
	c := imageConfig(t, "touch /vol/shm/x 2> /dev/null || echo refused; mount | grep -c ' /vol/shm '")
	c.Mounts = append(c.Mounts, launcher.Mount{Kind: launcher.MountBind, Source: "/dev", Destination: "/vol", ReadOnly: true})
	o := run(t, c)
	if !strings.HasPrefix(o.stdout, "refused\n") {
		t.Errorf("code %d, error %v, output %q, want a refusal", o.code, o.err, o.stdout)
	}
}

// TestSeccomp tries what the default filter forbids, and what it answers for calls that
// it does not know.
func TestSeccomp(t *testing.T) {
	tests := []struct {
		name string
		cfg  func(*launcher.Config)
		call string // of roleSyscall
		want string
	}{
		{"a filter is there", nil, "status", "2"},
		{"denied", nil, "keyctl", "EPERM"},
		{"new user namespace", nil, "unshare", "EPERM"},
		{"newer than the table", nil, "unknown", "ENOSYS"},
		{"clone3", nil, "clone3", "ENOSYS"},
		{"allowed by a capability", func(c *launcher.Config) { c.CapAdd = []string{"CAP_SYS_ADMIN"} }, "unshare", "ok"},
		{"all capabilities dropped", func(c *launcher.Config) { c.CapDrop = []string{"ALL"} }, "keyctl", "EPERM"},
		{"unconfined", func(c *launcher.Config) { c.Seccomp = launcher.SeccompUnconfined }, "status", "0"},
		{"privileged", func(c *launcher.Config) { c.Privileged = true }, "status", "0"},
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := launcher.Config{Args: []string{self, roleSyscall, tt.call}}
			if tt.cfg != nil {
				tt.cfg(&c)
			}
			o := run(t, c)
			if got := strings.TrimSpace(o.stdout); got != tt.want {
				t.Errorf("%s: %q, want %q (code %d, error %v, stderr %q)", tt.call, got, tt.want, o.code, o.err, o.stderr)
			}
		})
	}
}

// TestSeccompProfile runs a container under a caller's own profile.
func TestSeccompProfile(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	profile := filepath.Join(dir, "profile.json")
	write(t, profile, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["keyctl"],"action":"SCMP_ACT_ERRNO","errnoRet":95,
		"args":[{"index":0,"value":9999,"op":"SCMP_CMP_EQ"}]}]}`)
	c := launcher.Config{Args: []string{self, roleSyscall, "keyctl"}, Seccomp: profile}
	if o := run(t, c); strings.TrimSpace(o.stdout) != "ENOTSUP" {
		t.Errorf("keyctl: %q (code %d, error %v)", o.stdout, o.code, o.err)
	}
	write(t, profile, `{"defaultAction":"SCMP_ACT_MAYBE"}`)
	c.Net = launcher.NetNone
	if _, err := launcher.New(c); !errors.Is(err, launcher.ErrUsage) || !strings.Contains(err.Error(), profile) {
		t.Errorf("a profile that is none: error %v", err)
	}
}
