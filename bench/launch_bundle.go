// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/slipway-net/slipway/launcher/userns"
)

// bundleCaps are the capabilities that Podman's containers have
// (containers/common, pkg/config).
var bundleCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// Paths that containers do not see, or may not write (opencontainers/runtime-tools'
// defaults, which all engines share).
var (
	bundleMasked = []string{
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
	}
	bundleReadonly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// bundle is the directory of the OCI bundle that crun and runc run.
func (y *yard) bundle() string { return filepath.Join(y.dir, "bundle") }

// prepareBundle writes it.
func prepareBundle(_ context.Context, y *yard, _ Subject) error {
	s, err := bundleSpec(y)
	if err != nil {
		return fmt.Errorf("make an OCI bundle: %w", err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("make an OCI bundle: %w", err)
	}
	if err := os.MkdirAll(y.bundle(), 0o700); err != nil {
		return fmt.Errorf("make an OCI bundle: %w", err)
	}
	if err := os.WriteFile(filepath.Join(y.bundle(), "config.json"), b, 0o600); err != nil {
		return fmt.Errorf("make an OCI bundle: %w", err)
	}
	return nil
}

// bundleSpec is the bundle's container. A user without subordinate ids maps its own.
func bundleSpec(y *yard) (*specs.Spec, error) {
	caller, err := userns.Load()
	if err != nil {
		return nil, err
	}
	ids, err := caller.Default()
	if err != nil {
		ids = caller.Single()
	}
	s := &specs.Spec{
		Version: "1.0.2", // the newest that crun and runc of 2022 take
		Root:    &specs.Root{Path: y.rootfs, Readonly: true},
		Process: &specs.Process{
			Args: []string{programName, y.line}, Env: []string{"PATH=" + enginePath}, Cwd: "/", NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: bundleCaps, Effective: bundleCaps, Permitted: bundleCaps},
		},
		Hostname: "bench",
		Mounts:   bundleMounts(),
		Linux: &specs.Linux{
			UIDMappings: bundleIDs(ids.UIDs), GIDMappings: bundleIDs(ids.GIDs),
			MaskedPaths: bundleMasked, ReadonlyPaths: bundleReadonly,
		},
	}
	for _, kind := range []specs.LinuxNamespaceType{
		specs.UserNamespace, specs.MountNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.NetworkNamespace, specs.CgroupNamespace,
	} {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
	}
	s.Linux.Seccomp, err = seccomp.GetDefaultProfile(s)
	return s, err
}

func bundleIDs(ranges []userns.Range) []specs.LinuxIDMapping {
	var all []specs.LinuxIDMapping
	for _, r := range ranges {
		all = append(all, specs.LinuxIDMapping{ContainerID: r.Inside, HostID: r.Outside, Size: r.Size})
	}
	return all
}

// bundleMounts are those that every container has.
func bundleMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
}
