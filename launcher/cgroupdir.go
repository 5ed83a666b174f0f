// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// A membership is where a process is in the hierarchies of control groups, as
// /proc/PID/cgroup tells (cgroups(7)).
type membership struct {
	path   string   // in the hierarchy of version 2; empty where there is none
	legacy []string // controllers that are bound to a hierarchy of version 1
}

// readMembership reads a /proc/PID/cgroup. Lines that are not as written there are
// skipped.
func readMembership(text string) membership {
	var m membership
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(f) != 3 || !strings.HasPrefix(f[2], "/"):
		case f[0] == "0" && f[1] == "":
			m.path = f[2]
		default:
			m.legacy = append(m.legacy, strings.Split(f[1], ",")...)
		}
	}
	return m
}

// membershipOf reads that of a process.
func membershipOf(process string) (membership, error) {
	b, err := os.ReadFile("/proc/" + process + "/cgroup")
	if err != nil {
		return membership{}, fmt.Errorf("find out the control group: %w", err)
	}
	return readMembership(string(b)), nil
}

// unifiedFix is what gives a machine cgroup v2.
const unifiedFix = "boot with systemd.unified_cgroup_hierarchy=1"

// ownCgroup is the directory of the caller's group. The error says what is missing for
// limits.
func ownCgroup() (string, error) { return cgroupOf("self") }

// cgroupOf is the directory of a process's group in the hierarchy of version 2, wherever
// that is mounted: a machine with both versions has it at /sys/fs/cgroup/unified.
func cgroupOf(process string) (string, error) {
	m, err := membershipOf(process)
	if err != nil {
		return "", err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return "", fmt.Errorf("find control groups: %w", err)
	}
	if m.path == "" || len(mounts) == 0 {
		return "", errors.New("this machine has no cgroup v2; to mend it: " + unifiedFix)
	}
	for _, at := range mounts {
		if dir, ok := groupDir(at.Mountpoint, at.Root, m.path); ok {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no mount of cgroup v2 shows the group %s", m.path)
}

// groupDir is the directory of a group where a mount shows the hierarchy from root on. One
// from above our control group namespace, which begins with /.., does not say by what names
// it leads to us.
func groupDir(mountpoint, root, group string) (string, bool) {
	rel, err := filepath.Rel(root, group)
	if err != nil || strings.HasPrefix(root+"/", "/../") || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return filepath.Join(mountpoint, rel), true
}

// checkLegacy says which of the controllers a machine with both versions has given to
// version 1, where nothing is delegated.
func checkLegacy(m membership, controllers []string) error {
	for _, c := range controllers {
		if slices.Contains(m.legacy, c) {
			return fmt.Errorf("the %s controller belongs to cgroup v1 on this machine; to mend it: %s", c, unifiedFix)
		}
	}
	return nil
}
