// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/userns"
)

// imageRoot makes a directory that looks like an image's root but for its programs,
// which are the host's: hostPrograms mounts them.
func imageRoot(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	for _, d := range []string{"etc", "usr", "tmp", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n")
	write(t, filepath.Join(dir, "etc/group"), "root:x:0:\nweb:x:33:\nextra:x:44:web\n")
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		write(t, filepath.Join(dir, "etc", name), "the image's\n")
	}
	write(t, filepath.Join(dir, "data/file"), "image\n")
	return dir
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// hostPrograms is a volume with the host's programs.
func hostPrograms() launcher.Mount {
	return launcher.Mount{Kind: launcher.MountBind, Source: "/usr", Destination: "/usr", ReadOnly: true}
}

// imageConfig is a shell script on a root of one layer.
func imageConfig(t *testing.T, script string) launcher.Config {
	t.Helper()
	c := sh(script)
	c.Root.Lowers = []string{imageRoot(t)}
	c.Mounts = []launcher.Mount{hostPrograms()}
	return c
}

// subIDs is the caller with subordinate ids; a test is skipped where there are none, as
// the error proves, but for CI.
func subIDs(t *testing.T) userns.Caller {
	t.Helper()
	needNamespaces(t)
	c, err := userns.Load()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Default(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return c
}

func defaultIDs(t *testing.T) userns.Mapping {
	t.Helper()
	m, err := subIDs(t).Default()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestLayers writes all over a root of layers, by both ways of mounting.
func TestLayers(t *testing.T) {
	for name, make := range map[string]func(launcher.Config) (*launcher.Container, error){"fsopen": launcher.New, "mount": launcher.NewLegacy} {
		t.Run(name, func(t *testing.T) {
			c := imageConfig(t, `set -e
				cat /data/file /data/top; echo new > /data/file; rm -r /data/gone; mv /data/top /data/moved; ls /data
				chown 33:44 /data/file; stat -c %u:%g /data/file
				echo $$; id -u; grep box /etc/hosts; cat /etc/hostname`)
			c.IDs, c.Hostname = defaultIDs(t), "box"
			below := c.Root.Lowers[0]
			top := filepath.Join(t.TempDir(), "top")
			if err := os.MkdirAll(filepath.Join(top, "data"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(below, "data/gone"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(top, "data/top"), "top\n")
			c.Root.Lowers = []string{top, below}
			want := "image\ntop\nfile\nmoved\n33:44\n1\n0\n127.0.0.1\tbox\nbox"
			if diff := cmp.Diff(want, runWith(t, c, make).must(t)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			for name, want := range map[string]string{"data/file": "image\n", "etc/hosts": "the image's\n"} {
				if b, err := os.ReadFile(filepath.Join(below, name)); err != nil || string(b) != want {
					t.Errorf("%s of the layer is %q (%v)", name, b, err)
				}
			}
		})
	}
}

// TestUpperLayer keeps what a container writes, with the mapping's owners.
func TestUpperLayer(t *testing.T) {
	m := defaultIDs(t)
	dir := t.TempDir()
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		// What belongs to subordinate ids can be removed in a container alone.
		c := imageConfig(t, "rm -rf /dir/upper /dir/work")
		c.IDs = m
		c.Mounts = append(c.Mounts, launcher.Mount{Kind: launcher.MountBind, Source: dir, Destination: "/dir"})
		run(t, c).must(t)
	}()
	c := imageConfig(t, "echo kept > /data/new; chown 33 /data/new")
	c.IDs, c.Root.Upper, c.Root.Work, c.Root.Volatile = m, upper, work, true
	run(t, c).must(t)
	st, err := os.Stat(filepath.Join(upper, "data/new"))
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := m.HostUID(33); st.Sys().(*syscall.Stat_t).Uid != want {
		t.Errorf("the file belongs to %d, want %d", st.Sys().(*syscall.Stat_t).Uid, want)
	}
	if entries, err := os.ReadDir(filepath.Join(upper, "etc")); err == nil {
		t.Errorf("the launcher left %v in the upper layer's etc", entries)
	}
}

// TestDirectoryRoot uses a directory as it is.
func TestDirectoryRoot(t *testing.T) {
	c := sh("echo container > /data/new; cat /etc/hostname; head -1 /etc/hosts")
	dir := imageRoot(t)
	c.Root.Dir, c.Mounts, c.Hostname = dir, []launcher.Mount{hostPrograms()}, "box"
	if diff := cmp.Diff("box\n127.0.0.1\tlocalhost", run(t, c).must(t)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"data/new": "container\n", "etc/hosts": "the image's\n", "etc/hostname": "the image's\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s is %q (%v), want %q", name, b, err, want)
		}
	}
}

// TestLinkedFiles has links where the launcher puts files: one that leads nowhere, as
// systemd-resolved's does in an image, and one that leads to another file.
func TestLinkedFiles(t *testing.T) {
	c := imageConfig(t, "cat /etc/resolv.conf /etc/hostname /data/name; grep -c localhost /etc/hosts; cut -f 3 -d : /etc/passwd /etc/group | tr '\\n' ' '; grep -c environ /proc/self/mountinfo; true")
	c.Net, c.Hostname, c.DNS = launcher.NetPrivate, "box", []netip.Addr{netip.MustParseAddr("10.0.2.3")}
	c.Session = func(int) (launcher.Network, error) { return &fakeNet{}, nil }
	c.Account = "me:77:78"
	dir := c.Root.Lowers[0]
	for link, target := range map[string]string{
		"etc/resolv.conf": "../run/no/such/file", "etc/hostname": "../../../data/name", "etc/hosts": "/proc/1/environ", "etc/passwd": "/proc/self/environ",
	} {
		if err := os.Remove(filepath.Join(dir, link)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "data/name"), "the image's\n")
	if diff := cmp.Diff("nameserver 10.0.2.3\nbox\nbox\n2\n77 0 33 44 78 0", run(t, c).must(t)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// TestAccountHome has a home that passwd(5) cannot name.
func TestAccountHome(t *testing.T) {
	c := imageConfig(t, "pwd; grep me: /etc/passwd")
	c.Account, c.Workdir = "me:77:78", "/data/a:b"
	if err := os.MkdirAll(filepath.Join(c.Root.Lowers[0], c.Workdir), 0o755); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("/data/a:b\nme:*:77:78::/:/bin/sh", run(t, c).must(t)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	c := imageConfig(t, "touch /data/x 2> /dev/null || echo refused; touch /tmp/x /run/x /dev/shm/x && echo taken")
	c.Root.ReadOnly = true
	if diff := cmp.Diff("refused\ntaken", run(t, c).must(t)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestUser(t *testing.T) {
	const script = "id -u; id -g; id -G; echo $HOME; grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status | cut -f 2 | tr '\\n' ' '"
	const none = "0000000000000000 "
	tests := []struct {
		name, user string
		groups     []string
		capAdd     []string
		want       string
		err        string // in the error, if there is to be one
	}{
		{name: "root", want: "0\n0\n0\n/root\n00000000800425fb 00000000800425fb " + none},
		{name: "by name", user: "web", want: "33\n33\n33 44\n/srv\n" + none + none + none},
		{name: "by number", user: "33", want: "33\n33\n33 44\n/srv\n" + none + none + none},
		{name: "with group", user: "33:44", want: "33\n44\n44\n/srv\n" + none + none + none},
		{name: "unknown number", user: "1234:5678", want: "1234\n5678\n5678\n/\n" + none + none + none},
		{name: "more groups", user: "web", groups: []string{"extra", "7"}, want: "33\n33\n33 7 44\n/srv\n" + none + none + none},
		{name: "added capability", user: "web", capAdd: []string{"CAP_NET_ADMIN"},
			want: "33\n33\n33 44\n/srv\n0000000000001000 0000000000001000 0000000000001000 "},
		{name: "unknown name", user: "nobody-knows", err: `user "nobody-knows": `},
		{name: "beyond the mapping", user: "4000000", err: "become"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := imageConfig(t, script)
			c.IDs, c.User, c.Groups, c.CapAdd = defaultIDs(t), tt.user, tt.groups, tt.capAdd
			o := run(t, c)
			if tt.err != "" {
				if o.err == nil || o.code != 125 || !strings.Contains(o.err.Error(), tt.err) {
					t.Errorf("code %d, error %v, want 125 and %q", o.code, o.err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, o.must(t)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMappings looks from both sides at the ids of each kind of mapping.
func TestMappings(t *testing.T) {
	caller := subIDs(t)
	keep, err := caller.KeepID(1000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	nomap, err := caller.NoMap()
	if err != nil {
		t.Fatal(err)
	}
	auto, err := caller.Auto(userns.Slice{Offset: 4096, Size: 1024})
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]userns.Mapping{"keep": keep, "nomap": nomap, "auto": auto} {
		t.Run(name, func(t *testing.T) {
			c := imageConfig(t, "id -u; tr -s ' ' < /proc/self/uid_map; stat -c %u /data/file")
			c.IDs = m
			owner := 65534 // the host's owner of the layer is nobody here
			want := "0\n"
			for _, r := range m.UIDs {
				want += fmt.Sprintf(" %d %d %d\n", r.Inside, r.Outside, r.Size)
				if r.Outside == caller.UID {
					owner = int(r.Inside)
				}
			}
			if diff := cmp.Diff(want+fmt.Sprint(owner), run(t, c).must(t)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}
