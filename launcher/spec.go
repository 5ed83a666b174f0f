// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/userns"
)

// Device numbers of the nodes a container has
// (Documentation/admin-guide/devices.txt of Linux).
const (
	majorMem  = 1
	majorTTY  = 5
	majorMisc = 10
	minorTun  = 200
)

// fileModeDev is the access mode of every device node: anyone may open them.
const fileModeDev = 0o666

// containerUmask is the umask the command starts with.
const containerUmask = 0o022

// Host is what the spec takes from the host it is made for. The zero Host has
// none of it.
type Host struct {
	UID, GID uint32 // the caller's ids, which become 0 in the container
	Tun      bool   // there is a /dev/net/tun
	Terminal bool   // the command has a terminal of the container's own
	Rows     uint   // the terminal's size in characters, 0 where it is not known
	Columns  uint
}

// Spec builds the container of c as an OCI runtime-spec
// (https://github.com/opencontainers/runtime-spec), in which everything the
// container's file system and privileges consist of is written down. It depends on
// its arguments alone. c must be one that New accepts, with its defaults filled in.
func Spec(c Config, h Host) *specs.Spec {
	umask := uint32(containerUmask)
	caps := capabilities(&c)
	s := &specs.Spec{
		Version:    specs.Version,
		Hostname:   c.Hostname,
		Domainname: c.Domainname,
		Root:       &specs.Root{Path: "/", Readonly: c.Root.ReadOnly},
		Mounts:     append(specMounts(&c), volumeMounts(&c)...),
		Process: &specs.Process{
			Terminal:        h.Terminal,
			User:            specs.User{Umask: &umask},
			Args:            c.Args,
			Env:             specEnv(c, h.Terminal),
			Cwd:             c.Workdir,
			NoNewPrivileges: !c.NewPrivs && !c.Privileged,
			// What a user other than root holds is what was asked for by name.
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Ambient: namedCaps(&c, caps)},
		},
		Linux: &specs.Linux{
			UIDMappings: specMapping(c.IDs.UIDs, h.UID),
			GIDMappings: specMapping(c.IDs.GIDs, h.GID),
			Namespaces:  specNamespaces(c.Net),
			Devices:     specDevices(h.Tun),
			Sysctl:      specSysctls(&c),
		},
	}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = hiddenPaths(&c)
	for _, l := range c.Rlimits {
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: rlimitPrefix + strings.ToUpper(l.Name), Soft: l.Soft, Hard: l.Hard})
	}
	if c.OOMScoreAdj != 0 {
		s.Process.OOMScoreAdj = &c.OOMScoreAdj
	}
	if h.Terminal && h.Rows > 0 && h.Columns > 0 {
		s.Process.ConsoleSize = &specs.Box{Height: h.Rows, Width: h.Columns}
	}
	return s
}

// namedCaps are those of caps that the caller added by name.
func namedCaps(c *Config, caps []string) []string {
	return slices.DeleteFunc(slices.Clone(caps), func(name string) bool { return !slices.Contains(c.CapAdd, name) })
}

// specMapping is a mapping as a runtime-spec has it; none is 0 for own.
func specMapping(ranges []userns.Range, own uint32) []specs.LinuxIDMapping {
	if len(ranges) == 0 {
		return []specs.LinuxIDMapping{{ContainerID: 0, HostID: own, Size: 1}}
	}
	var all []specs.LinuxIDMapping
	for _, r := range ranges {
		all = append(all, specs.LinuxIDMapping{ContainerID: r.Inside, HostID: r.Outside, Size: r.Size})
	}
	return all
}

// specSysctls are the caller's, and one of ours where the network is the container's.
func specSysctls(c *Config) map[string]string {
	all := make(map[string]string)
	if c.Net.isOwn() {
		// Without CAP_NET_RAW ping needs the ICMP sockets of icmp(7), which a new
		// namespace gives to nobody.
		all[pingGroupRange] = sandbox.PingGroups
	}
	for k, v := range c.Sysctls {
		all[strings.ReplaceAll(k, "/", ".")] = v
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// pingGroupRange is the parameter that says which groups may have ICMP sockets.
const pingGroupRange = "net.ipv4.ping_group_range"

// hiddenPaths are what is masked and what is read-only.
func hiddenPaths(c *Config) (masked, readonly []string) {
	masked, readonly = maskedPaths(), readonlyPaths()
	if c.Privileged || slices.Contains(c.Unmask, "ALL") {
		masked, readonly = nil, nil
	}
	shown := func(p string) bool {
		return slices.ContainsFunc(c.Unmask, func(u string) bool { ok, err := path.Match(u, p); return ok && err == nil })
	}
	return append(slices.DeleteFunc(masked, shown), c.Mask...), slices.DeleteFunc(readonly, shown)
}

func specNamespaces(net NetMode) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{
		{Type: specs.UserNamespace},
		{Type: specs.MountNamespace},
		{Type: specs.PIDNamespace},
		{Type: specs.IPCNamespace},
		{Type: specs.UTSNamespace},
		{Type: specs.CgroupNamespace},
	}
	if net.isOwn() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	}
	return ns
}

func specMounts(c *Config) []specs.Mount {
	shm := "size=" + strconv.FormatInt(c.ShmSize, 10)
	m := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", shm}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if c.Root.IsHost() {
		m = append([]specs.Mount{{Destination: "/", Type: "overlay", Source: "/", Options: []string{"userxattr"}}}, m...)
		m = append(m, specs.Mount{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=755"}})
	} else if c.Root.ReadOnly {
		// Programs cannot do without places to write to; podman run --read-only, too, has these.
		for _, dir := range []string{"/run", "/tmp", "/var/tmp"} {
			m = append(m, specs.Mount{Destination: dir, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777", sandbox.OptVolume}})
		}
	}
	if c.Net == NetHost {
		// A sysfs can be mounted by the owner of the network namespace alone.
		m = append(m, specs.Mount{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}})
	} else {
		m = append(m,
			specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup2", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		)
	}
	// The caller's mount at a place is instead of ours.
	return slices.DeleteFunc(m, func(m specs.Mount) bool {
		return slices.ContainsFunc(c.Mounts, func(o Mount) bool { return path.Clean(o.Destination) == m.Destination })
	})
}

func specDevices(tun bool) []specs.LinuxDevice {
	node := func(path string, major, minor int64) specs.LinuxDevice {
		mode := os.FileMode(fileModeDev)
		return specs.LinuxDevice{Path: path, Type: "c", Major: major, Minor: minor, FileMode: &mode}
	}
	d := []specs.LinuxDevice{
		node("/dev/null", majorMem, 3),
		node("/dev/zero", majorMem, 5),
		node("/dev/full", majorMem, 7),
		node("/dev/random", majorMem, 8),
		node("/dev/urandom", majorMem, 9),
		node("/dev/tty", majorTTY, 0),
	}
	if tun {
		d = append(d, node("/dev/net/tun", majorMisc, minorTun))
	}
	return d
}

// specEnv is the default environment with the words of c put over it. HOME is that
// of the user, which the init stage looks up.
func specEnv(c Config, terminal bool) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + c.Hostname,
		"container=slipway",
	}
	if terminal {
		env = append(env, "TERM=xterm")
	}
	at := make(map[string]int, len(env)+len(c.Env))
	for i, e := range env {
		k, _, _ := strings.Cut(e, "=")
		at[k] = i
	}
	for _, e := range c.Env {
		k, _, _ := strings.Cut(e, "=")
		if i, ok := at[k]; ok {
			env[i] = e
			continue
		}
		at[k] = len(env)
		env = append(env, e)
	}
	return env
}

// maskedPaths are those that Docker and Podman hide: they tell of the host or
// reach its hardware.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

// readonlyPaths are those that Docker and Podman make read-only.
func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
