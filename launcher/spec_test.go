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
	type result struct {
		Env, Args         []string
		Workdir, Hostname string
		Net               launcher.NetMode
		TTY               bool
	}
	tests := []struct {
		name string
		args []string
		want result
		err  string // in the error, if there is to be one
	}{
		{name: "command", args: []string{"--", "ls", "-l"}, want: result{Workdir: "/", Args: []string{"ls", "-l"}}},
		{
			name: "all",
			args: []string{"--rm", "-it", "-e", "A=b=c", "-e", "HOST", "-e", "NONE", "-e", "E=", "-w", "/w", "--hostname", "h", "--net=none", "--", "sh"},
			want: result{Env: []string{"A=b=c", "HOST=value", "E="}, Workdir: "/w", Hostname: "h", Net: launcher.NetNone, TTY: true, Args: []string{"sh"}},
		},
		{name: "flag after the dash is the command's", args: []string{"--", "env", "-e", "x"}, want: result{Workdir: "/", Args: []string{"env", "-e", "x"}}},
		{name: "no dash", args: []string{"ls"}, err: "put the command after --"},
		{name: "word before the dash", args: []string{"image", "--", "ls"}, err: "put the command after --"},
		{name: "nothing", args: nil, err: "no command"},
		{name: "empty variable", args: []string{"-e", "=x", "--", "ls"}, err: "want KEY=VALUE"},
		{name: "network", args: []string{"--net=bridge", "--", "ls"}, err: "want private, none or host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var c launcher.Config
			fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
			launcher.AddFlags(fs, &c, lookup)
			err := fs.Parse(tt.args)
			if err == nil {
				c.Args, err = launcher.Command(fs)
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := result{Env: c.Env, Args: c.Args, Workdir: c.Workdir, Hostname: c.Hostname, Net: c.Net, TTY: c.TTY}
			if diff := cmp.Diff(tt.want, got); diff != "" {
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
