// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/slipway-net/slipway/launcher"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestSpec(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cfg  launcher.Config
		host launcher.Host
	}{
		{
			name: "private",
			cfg: launcher.Config{Args: []string{"sh", "-c", "true"}, Env: []string{"A=b", "HOME=/h", "A=c"}, Workdir: "/w",
				Hostname: "box", Net: launcher.NetPrivate, ShmSize: 64 << 20},
			host: launcher.Host{UID: 1000, GID: 1001, Tun: true, Terminal: true, Rows: 24, Columns: 80},
		},
		{
			name: "host",
			cfg:  launcher.Config{Args: []string{"true"}, Workdir: "/", Hostname: "box", Net: launcher.NetHost, ShmSize: 64 << 20},
			host: launcher.Host{UID: 1000, GID: 1000},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := json.MarshalIndent(launcher.Spec(tt.cfg, tt.host), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "spec-"+tt.name+".json")
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	environ := map[string]string{"HOST": "value"}
	lookup := func(k string) (string, bool) { v, ok := environ[k]; return v, ok }
	dir := t.TempDir()
	envFile := filepath.Join(dir, "env")
	write(t, envFile, "# comment\n\nF=1\n HOST\r\nG=a b\n")
	const def = launcher.NetMode("")
	type cfg = launcher.Config
	bind := func(m launcher.Mount) []launcher.Mount { m.Kind = launcher.MountBind; return []launcher.Mount{m} }
	tests := []struct {
		name string
		args []string
		want launcher.Config
		err  string // in the error, if there is to be one
	}{
		{name: "command", args: []string{"--", "ls", "-l"}, want: cfg{Args: []string{"ls", "-l"}}},
		{
			name: "command and place",
			args: []string{"-it", "-e", "A=b=c", "-e", "HOST", "-e", "NONE", "-e", "E=", "-w", "/w", "-u", "1:2", "--group-add", "3,4", "--hostname", "h",
				"--net=none", "--add-host", "n:1.2.3.4", "--env-file", envFile, "--", "sh"},
			want: cfg{Env: []string{"A=b=c", "HOST=value", "E=", "F=1", "HOST=value", "G=a b"}, Workdir: "/w", User: "1:2", Groups: []string{"3", "4"},
				Hostname: "h", Net: launcher.NetNone, Hosts: []string{"n:1.2.3.4"}, TTY: true, Args: []string{"sh"}},
		},
		{name: "flag after the dash is the command's", args: []string{"--", "env", "-e", "x"}, want: cfg{Args: []string{"env", "-e", "x"}}},
		{name: "volume", args: []string{"-v", "/a:/b", "--", "x"}, want: cfg{Mounts: bind(launcher.Mount{Source: "/a", Destination: "/b"}), Args: []string{"x"}}},
		{name: "volume with options", args: []string{"-v", "/a:/b:ro,U,rslave,z,bind,noexec", "--", "x"},
			want: cfg{Mounts: bind(launcher.Mount{Source: "/a", Destination: "/b", ReadOnly: true, Chown: true, Slave: true, Shallow: true, Options: []string{"noexec"}}), Args: []string{"x"}}},
		{name: "volume under a layer", args: []string{"-v", "/a:/b:O", "--", "x"},
			want: cfg{Mounts: []launcher.Mount{{Kind: launcher.MountOverlay, Source: "/a", Destination: "/b"}}, Args: []string{"x"}}},
		{name: "named volume", args: []string{"-v", "name:/b", "--", "x"}, want: cfg{Mounts: bind(launcher.Mount{Source: dir + "/name/_data", Destination: "/b", Fresh: true, Fill: true}), Args: []string{"x"}}},
		{name: "named volume as it is", args: []string{"-v", "name:/b:nocopy", "--tmpfs", "/t:tmpcopyup", "--", "x"}, want: cfg{Mounts: append(
			bind(launcher.Mount{Source: dir + "/name/_data", Destination: "/b", Fresh: true}), launcher.Mount{Kind: launcher.MountTmpfs, Destination: "/t", Fill: true}), Args: []string{"x"}}},
		{name: "mount", args: []string{"--mount", "type=bind,src=/a,dst=/b,ro", "--mount", "type=tmpfs,target=/c,tmpfs-size=1m", "--", "x"},
			want: cfg{Mounts: append(bind(launcher.Mount{Source: "/a", Destination: "/b", ReadOnly: true}),
				launcher.Mount{Kind: launcher.MountTmpfs, Destination: "/c", Options: []string{"size=1m"}}), Args: []string{"x"}}},
		{name: "tmpfs", args: []string{"--tmpfs", "/t:size=1m,noexec,rw", "--shm-size", "1g", "--", "x"},
			want: cfg{Mounts: []launcher.Mount{{Kind: launcher.MountTmpfs, Destination: "/t", Options: []string{"size=1m", "noexec"}}}, ShmSize: 1 << 30, Args: []string{"x"}}},
		{name: "device", args: []string{"--device", "/dev/null:/dev/a:r", "--device", "/dev/zero", "--", "x"},
			want: cfg{Devices: []launcher.Device{{Source: "/dev/null", Destination: "/dev/a", ReadOnly: true}, {Source: "/dev/zero", Destination: "/dev/zero"}}, Args: []string{"x"}}},
		{name: "rights", args: []string{"--cap-add", "net_admin,CAP_SYS_PTRACE", "--cap-drop", "all", "--privileged", "--security-opt", "no-new-privileges=false",
			"--security-opt", "seccomp=unconfined", "--security-opt", "mask=/a:/b", "--security-opt=unmask=ALL", "--sysctl", "net.x=1", "--", "x"},
			want: cfg{CapAdd: []string{"CAP_NET_ADMIN", "CAP_SYS_PTRACE"}, CapDrop: []string{"ALL"}, Privileged: true, NewPrivs: true, Seccomp: "unconfined",
				Mask: []string{"/a", "/b"}, Unmask: []string{"ALL"}, Sysctls: map[string]string{"net.x": "1"}, Args: []string{"x"}}},
		{name: "limits", args: []string{"--ulimit", "nofile=10:20", "--ulimit=core=-1", "-m", "64m", "--cpus", "1.5", "--pids-limit", "9", "--oom-score-adj", "5", "--", "x"},
			want: cfg{Rlimits: []launcher.Rlimit{{Name: "nofile", Soft: 10, Hard: 20}, {Name: "core", Soft: 1<<64 - 1, Hard: 1<<64 - 1}},
				Limits: launcher.Limits{Memory: 64 << 20, CPUs: 1.5, Pids: 9}, OOMScoreAdj: 5, Args: []string{"x"}}},
		{name: "empty variable", args: []string{"-e", "=x", "--", "ls"}, err: "want KEY=VALUE"},
		{name: "network", args: []string{"--net=bridge", "--", "ls"}, err: "want private, none, host"},
		{name: "capability", args: []string{"--cap-add=FLY", "--", "ls"}, err: "capabilities(7)"},
		{name: "limit", args: []string{"--ulimit=fish=1", "--", "ls"}, err: "getrlimit(2)"},
		{name: "size", args: []string{"--shm-size=big", "--", "ls"}, err: "want a size"},
		{name: "volume without a place", args: []string{"-v", "/a", "--", "ls"}, err: "want SOURCE:DIR"},
		{name: "volume's name", args: []string{"-v", "..a:/b", "--", "ls"}, err: "want a path with a slash"},
		{name: "volume's option", args: []string{"-v", "/a:/b:fast", "--", "ls"}, err: `option "fast"`},
		{name: "shared volume", args: []string{"-v", "/a:/b:shared", "--", "ls"}, err: "without root"},
		{name: "user namespace", args: []string{"--userns=mine", "--", "ls"}, err: "want host, keep-id"},
		{name: "user namespace's option", args: []string{"--userns=auto:uid=1", "--", "ls"}, err: "no such option"},
		{name: "security option", args: []string{"--security-opt=x=y", "--", "ls"}, err: `option "x"`},
		{name: "AppArmor profile", args: []string{"--security-opt=apparmor=x", "--", "ls"}, err: "AppArmor"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := launcher.Config{Net: def}
			fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
			launcher.AddFlags(fs, &c, lookup, dir)
			err := fs.Parse(tt.args)
			c.Args = fs.Args()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, c, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cfg  launcher.Config
	}{
		{"no command", launcher.Config{Net: launcher.NetNone}},
		{"empty command", launcher.Config{Net: launcher.NetNone, Args: []string{""}}},
		{"relative directory", launcher.Config{Net: launcher.NetNone, Args: []string{"true"}, Workdir: "x"}},
		{"network", launcher.Config{Net: "bridge", Args: []string{"true"}}},
		{"hostname with a line", launcher.Config{Net: launcher.NetNone, Args: []string{"true"}, Hostname: "a\n127.0.0.1 b"}},
		{"long hostname", launcher.Config{Net: launcher.NetNone, Args: []string{"true"}, Hostname: strings.Repeat("a", 65)}},
		{"empty label", launcher.Config{Net: launcher.NetNone, Args: []string{"true"}, Hostname: "a..b"}},
		{"hyphen first", launcher.Config{Net: launcher.NetNone, Args: []string{"true"}, Hostname: "-a"}},
		{"variable without value", launcher.Config{Net: launcher.NetNone, Args: []string{"true"}, Env: []string{"A"}}},
		{"NUL", launcher.Config{Net: launcher.NetNone, Args: []string{"a\x00b"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := launcher.New(tt.cfg); !errors.Is(err, launcher.ErrUsage) {
				t.Errorf("error %v, want ErrUsage", err)
			}
		})
	}
}

func TestEtcFiles(t *testing.T) {
	t.Parallel()
	addrs := func(s ...string) (out []netip.Addr) {
		for _, a := range s {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	loopback := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	tests := []struct {
		name string
		cfg  launcher.Config
		want map[string]string
	}{
		{
			name: "private",
			cfg: launcher.Config{Hostname: "box", Net: launcher.NetPrivate, DNS: addrs("10.0.2.3", "fd00::3"), ContainerAddrs: addrs("10.0.2.100", "fd00::100"),
				Search: []string{"example.org", "two words", "line\nnameserver 1.2.3.4", "example.net"}},
			want: map[string]string{
				"/etc/hostname":    "box\n",
				"/etc/hosts":       loopback + "10.0.2.100\tbox\nfd00::100\tbox\n",
				"/etc/resolv.conf": "nameserver 10.0.2.3\nnameserver fd00::3\nsearch example.org example.net\n",
			},
		},
		{
			name: "none",
			cfg:  launcher.Config{Hostname: "box", Net: launcher.NetNone, DNS: addrs("10.0.2.3"), ContainerAddrs: addrs("10.0.2.100")},
			want: map[string]string{"/etc/hostname": "box\n", "/etc/hosts": loopback + "127.0.0.1\tbox\n", "/etc/resolv.conf": ""},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := launcher.EtcFiles(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// TestVolumeWithoutHome asks for a volume by name where none can be kept: nothing may be
// made in the working directory instead.
func TestVolumeWithoutHome(t *testing.T) {
	t.Chdir(t.TempDir())
	var c launcher.Config
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	launcher.AddFlags(fs, &c, func(string) (string, bool) { return "", false }, "volumes")
	if err := fs.Parse([]string{"-v", "data:/data"}); err == nil || !strings.Contains(err.Error(), "set HOME") {
		t.Errorf("error %v, want what mends it", err)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("in the working directory: %v %v", left, err)
	}
}
