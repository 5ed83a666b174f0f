// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher"
)

// TestVolumes shows volumes of every kind, and looks what becomes of what is written.
func TestVolumes(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"rw", "ro", "over", "owned"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, d, "file"), d+"\n")
	}
	bind := func(name string) launcher.Mount {
		return launcher.Mount{Kind: launcher.MountBind, Source: filepath.Join(dir, name), Destination: "/vol/" + name}
	}
	c := imageConfig(t, `cat /vol/*/file; for d in rw ro over owned; do echo new 2> /dev/null > /vol/$d/new || echo $d refused; done
		cat /vol/one; stat -c %U /vol/owned/file; echo x > /tmp/t/x; stat -f -c '%b %S' /tmp/t /dev/shm; cp /bin/true /tmp/t; /tmp/t/true 2> /dev/null || echo noexec`)
	c.IDs = defaultIDs(t)
	ro, over, owned := bind("ro"), bind("over"), bind("owned")
	ro.ReadOnly, owned.Chown, over.Kind = true, true, launcher.MountOverlay
	one := launcher.Mount{Kind: launcher.MountBind, Source: filepath.Join(dir, "rw/file"), Destination: "/vol/one"}
	tmp := launcher.Mount{Kind: launcher.MountTmpfs, Destination: "/tmp/t", Options: []string{"size=1m", "noexec"}}
	c.Mounts = append(c.Mounts, tmp, one, bind("rw"), ro, over, owned)
	c.ShmSize = 2 << 20
	want := "over\nowned\nro\nrw\nro refused\nrw\nroot\n256 4096\n512 4096\nnoexec"
	if diff := cmp.Diff(want, run(t, c).must(t)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	for name, want := range map[string]bool{"rw": true, "ro": false, "over": false, "owned": true} {
		if _, err := os.Stat(filepath.Join(dir, name, "new")); (err == nil) != want {
			t.Errorf("what was written to %s is on the host: %v, want %t", name, err, want)
		}
	}
}

// TestRights changes what a command may do, one thing at a time.
func TestRights(t *testing.T) {
	const caps = "grep CapEff /proc/self/status | cut -f 2"
	tests := []struct {
		name   string
		script string
		change func(*launcher.Config)
		want   string
	}{
		{"all dropped", caps, func(c *launcher.Config) { c.CapDrop = []string{"ALL"} }, "0000000000000000"},
		{"all but one", caps, func(c *launcher.Config) { c.CapDrop, c.CapAdd = []string{"ALL"}, []string{"CAP_NET_BIND_SERVICE"} }, "0000000000000400"},
		{"one more", caps, func(c *launcher.Config) { c.CapAdd = []string{"CAP_SYS_PTRACE"} }, "00000000800c25fb"},
		{"new privileges", "grep NoNewPrivs /proc/self/status", func(c *launcher.Config) { c.NewPrivs = true }, "NoNewPrivs:\t0"},
		{"a filter without no_new_privs", "grep Seccomp: /proc/self/status", func(c *launcher.Config) { c.NewPrivs = true }, "Seccomp:\t2"},
		{"limit", "ulimit -Sn; ulimit -Hn", func(c *launcher.Config) { c.Rlimits = []launcher.Rlimit{{Name: "nofile", Soft: 100, Hard: 200}} }, "100\n200"},
		{"sysctl", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", func(c *launcher.Config) {
			c.Sysctls = map[string]string{"net.ipv4.ip_forward": "1", "kernel/msgmax": "4321"}
		}, "1\n4321"},
		{"unmasked", "head -c 1 /proc/timer_list > /dev/null 2>&1; stat -c %F /proc/keys", func(c *launcher.Config) { c.Unmask = []string{"/proc/*"} }, "regular empty file"},
		{"masked", "ls /data", func(c *launcher.Config) { c.Mask = []string{"/data"} }, ""},
		{"timer slack", "cat /proc/self/timerslack_ns", func(*launcher.Config) {}, slack(t)},
		{"timer slack under our pid 1", "cat /proc/self/timerslack_ns", func(c *launcher.Config) { yes := true; c.Init = &yes }, slack(t)},
		{"OOM score", "cat /proc/self/oom_score_adj", func(c *launcher.Config) { c.OOMScoreAdj = 321 }, "321"},
		{"domain", "cat /proc/sys/kernel/domainname", func(c *launcher.Config) { c.Domainname = "example" }, "example"},
		{"hosts", "grep -e one -e two /etc/hosts", func(c *launcher.Config) { c.Hosts = []string{"one:10.0.0.1", "two:[fd00::1]"} }, "10.0.0.1\tone\nfd00::1\ttwo"},
		{"device", "stat -c %t,%T /dev/other; echo x > /dev/other && echo written", func(c *launcher.Config) {
			c.Devices = []launcher.Device{{Source: "/dev/null", Destination: "/dev/other"}}
		}, "1,3\nwritten"},
		{"pid 1 of ours", "echo $PPID", func(c *launcher.Config) { yes := true; c.Init = &yes }, "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := imageConfig(t, tt.script)
			tt.change(&c)
			o := run(t, c)
			if diff := cmp.Diff(tt.want, o.must(t)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefusedRights asks for what cannot be had.
func TestRefusedRights(t *testing.T) {
	tests := []struct {
		name   string
		change func(*launcher.Config)
		want   string // in the error
	}{
		{"hard limit above the caller's", func(c *launcher.Config) {
			c.Rlimits = []launcher.Rlimit{{Name: "core", Soft: 1 << 60, Hard: 1 << 60}, {Name: "nofile", Soft: 1 << 29, Hard: 1 << 29}}
		}, "ulimit -H"},
		{"sysctl that is not there", func(c *launcher.Config) { c.Sysctls = map[string]string{"net.no.such": "1"} }, "net.no.such"},
		{"volume that is not there", func(c *launcher.Config) {
			c.Mounts = append(c.Mounts, launcher.Mount{Kind: launcher.MountBind, Source: "/no/such", Destination: "/x"})
		}, "mkdir -p /no/such"},
		{"layer that is not there", func(c *launcher.Config) { c.Root.Lowers = append(c.Root.Lowers, "/no/such/layer") }, "/no/such/layer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := imageConfig(t, "echo started")
			c.Net = launcher.NetNone
			tt.change(&c)
			ct, err := launcher.New(c)
			if err == nil {
				_, err = ct.Run(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, tt.want)
			}
		})
	}
}

// slack is this thread's timer slack, which a command has, too, and its init stage not.
func slack(t *testing.T) string {
	n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(n)
}
