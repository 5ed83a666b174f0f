// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// Where the ranges of subordinate ids are (subuid(5), subgid(5)).
const (
	subuidFile = "/etc/subuid"
	subgidFile = "/etc/subgid"
)

// subRange is the number of ids a container with ordinary users needs.
const subRange = 65536

// Checks looks at what the machine allows the caller's containers, besides what
// their network needs. It starts the running binary, which must have called Init
// if IsInit, in namespaces of its own, and leaves nothing behind. The first is
// needed; the others are of use.
func Checks(ctx context.Context) []tap.Check {
	return []tap.Check{checkOverlay(ctx), checkIDMap(subuidFile, "newuidmap"), checkIDMap(subgidFile, "newgidmap"), checkCgroup()}
}

// checkOverlay runs the probe.
func checkOverlay(ctx context.Context) tap.Check {
	c := tap.Check{Name: "overlay in a user namespace"}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", initProbe)
	cmd.Args[0], cmd.Env = InitArg, initEnv()
	cmd.SysProcAttr = initAttr(NetHost)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		c.OK, c.Detail = true, "userxattr works; a directory of the lower layer can be removed"
	case errors.As(err, &exit) && len(out) > 0:
		c.Detail, c.Fix = string(bytes.TrimSpace(out)), "use Linux 5.11 or later with the overlay module; or "+userNSFix()
	default:
		c.Detail, c.Fix = startError(err).Error(), userNSFix()
	}
	return c
}

// checkIDMap looks for the set-id tool that maps ranges, and for a range.
func checkIDMap(file, tool string) tap.Check {
	c := tap.Check{Name: tool}
	u, err := user.Current()
	if err != nil {
		c.Detail = fmt.Sprintf("look up the caller: %v", err)
		return c
	}
	if _, err := exec.LookPath(tool); err != nil {
		c.Detail, c.Fix = "not installed; only one id can be mapped", "sudo apt-get install uidmap (shadow-utils on Fedora)"
		return c
	}
	b, err := os.ReadFile(file)
	if err != nil {
		c.Detail = err.Error()
	}
	n := subIDs(b, u.Username, u.Uid)
	c.OK = n >= subRange
	if c.OK {
		c.Detail = fmt.Sprintf("%s has %d ids for %s", file, n, u.Username)
		return c
	}
	if c.Detail == "" {
		c.Detail = fmt.Sprintf("%s has %d ids for %s, want %d", file, n, u.Username, subRange)
	}
	flag := "--add-subuids"
	if file == subgidFile {
		flag = "--add-subgids"
	}
	c.Fix = fmt.Sprintf("sudo usermod %s 100000-165535 %s", flag, u.Username)
	return c
}

// subIDs adds up the ranges that subuid(5) has for a user, by name or number.
func subIDs(file []byte, name, uid string) int {
	n := 0
	for line := range strings.Lines(string(file)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != name && f[0] != uid {
			continue
		}
		if c, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			n += int(c)
		}
	}
	return n
}

// checkCgroup finds out whether the caller may make groups under its own, which
// limits on memory or CPU need.
func checkCgroup() tap.Check {
	c := tap.Check{Name: "cgroup delegation"}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	own := ""
	for line := range strings.Lines(string(b)) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = p
		}
	}
	dir := filepath.Join("/sys/fs/cgroup", own)
	switch {
	case own == "" || !isCgroup2("/sys/fs/cgroup"):
		c.Detail, c.Fix = "not a pure cgroup v2 machine; containers have no limits", "boot with systemd.unified_cgroup_hierarchy=1"
	case unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) != nil:
		c.Detail, c.Fix = dir+" is not the caller's; containers have no limits", "log in through systemd, or run under: systemd-run --user --scope -p Delegate=yes"
	default:
		have, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		c.OK, c.Detail = true, fmt.Sprintf("%s is the caller's, with %s", dir, strings.TrimSpace(string(have)))
	}
	return c
}

func isCgroup2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}
