// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// allCaps is the word for every capability.
const allCaps = "ALL"

// capNames are the kernel's capabilities by their numbers
// (include/uapi/linux/capability.h).
func capNames() []string {
	return []string{
		unix.CAP_CHOWN: "CAP_CHOWN", unix.CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE", unix.CAP_DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH",
		unix.CAP_FOWNER: "CAP_FOWNER", unix.CAP_FSETID: "CAP_FSETID", unix.CAP_KILL: "CAP_KILL", unix.CAP_SETGID: "CAP_SETGID",
		unix.CAP_SETUID: "CAP_SETUID", unix.CAP_SETPCAP: "CAP_SETPCAP", unix.CAP_LINUX_IMMUTABLE: "CAP_LINUX_IMMUTABLE",
		unix.CAP_NET_BIND_SERVICE: "CAP_NET_BIND_SERVICE", unix.CAP_NET_BROADCAST: "CAP_NET_BROADCAST", unix.CAP_NET_ADMIN: "CAP_NET_ADMIN",
		unix.CAP_NET_RAW: "CAP_NET_RAW", unix.CAP_IPC_LOCK: "CAP_IPC_LOCK", unix.CAP_IPC_OWNER: "CAP_IPC_OWNER", unix.CAP_SYS_MODULE: "CAP_SYS_MODULE",
		unix.CAP_SYS_RAWIO: "CAP_SYS_RAWIO", unix.CAP_SYS_CHROOT: "CAP_SYS_CHROOT", unix.CAP_SYS_PTRACE: "CAP_SYS_PTRACE",
		unix.CAP_SYS_PACCT: "CAP_SYS_PACCT", unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN", unix.CAP_SYS_BOOT: "CAP_SYS_BOOT", unix.CAP_SYS_NICE: "CAP_SYS_NICE",
		unix.CAP_SYS_RESOURCE: "CAP_SYS_RESOURCE", unix.CAP_SYS_TIME: "CAP_SYS_TIME", unix.CAP_SYS_TTY_CONFIG: "CAP_SYS_TTY_CONFIG",
		unix.CAP_MKNOD: "CAP_MKNOD", unix.CAP_LEASE: "CAP_LEASE", unix.CAP_AUDIT_WRITE: "CAP_AUDIT_WRITE", unix.CAP_AUDIT_CONTROL: "CAP_AUDIT_CONTROL",
		unix.CAP_SETFCAP: "CAP_SETFCAP", unix.CAP_MAC_OVERRIDE: "CAP_MAC_OVERRIDE", unix.CAP_MAC_ADMIN: "CAP_MAC_ADMIN", unix.CAP_SYSLOG: "CAP_SYSLOG",
		unix.CAP_WAKE_ALARM: "CAP_WAKE_ALARM", unix.CAP_BLOCK_SUSPEND: "CAP_BLOCK_SUSPEND", unix.CAP_AUDIT_READ: "CAP_AUDIT_READ",
		unix.CAP_PERFMON: "CAP_PERFMON", unix.CAP_BPF: "CAP_BPF", unix.CAP_CHECKPOINT_RESTORE: "CAP_CHECKPOINT_RESTORE",
	}
}

// DefaultCapabilities returns the names of the capabilities that a command has:
// those that Podman gives by default (containers.conf(5), default_capabilities), and
// CAP_NET_RAW, as Docker does: many images have a ping with that file capability, and
// execve(2) refuses a program whose capabilities cannot be had. The slice is the
// caller's.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
		"CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
}

// capabilities are those of the default set with those that c adds and without those
// that it drops, sorted. All of them are what a privileged container has.
func capabilities(c *Config) []string {
	caps := DefaultCapabilities()
	if c.Privileged || slices.Contains(c.CapAdd, allCaps) {
		caps = capNames()
	}
	if slices.Contains(c.CapDrop, allCaps) {
		caps = nil
	}
	for _, add := range c.CapAdd {
		if add != allCaps && !slices.Contains(caps, add) {
			caps = append(caps, add)
		}
	}
	caps = slices.DeleteFunc(caps, func(name string) bool { return slices.Contains(c.CapDrop, name) })
	slices.Sort(caps)
	return caps
}

// capMask makes a set of the capabilities named.
func capMask(names []string) uint64 {
	var mask uint64
	for i, n := range capNames() {
		if slices.Contains(names, n) {
			mask |= 1 << i
		}
	}
	return mask
}

// ParseCapability returns the name of a capability as the kernel has it, for one with
// or without CAP_ in any case, or ALL. The error is an ErrUsage.
func ParseCapability(s string) (string, error) {
	name := strings.ToUpper(s)
	if name == allCaps {
		return name, nil
	}
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	if !slices.Contains(capNames(), name) {
		return "", fmt.Errorf("%w: capability %q: see capabilities(7) for their names", ErrUsage, s)
	}
	return name, nil
}
