// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/scope"
	"github.com/slipway-net/slipway/launcher/userns"
	"github.com/slipway-net/slipway/launcher/userns/inside"
	"github.com/slipway-net/slipway/tap"
)

// Checks looks at what the machine allows the caller's containers, besides what
// their network needs. It starts the running binary, which must have called Init
// if IsInit, in namespaces of its own, and leaves nothing behind. The first is
// needed; the others are of use.
func Checks(ctx context.Context) []tap.Check {
	return []tap.Check{checkOverlay(ctx), checkIDMap(), checkCgroup()}
}

// checkOverlay runs the probe.
func checkOverlay(ctx context.Context) tap.Check {
	c := tap.Check{Name: "overlay in a user namespace"}
	cmd := exec.CommandContext(ctx, selfExe, sandbox.ModeProbe)
	cmd.Args[0], cmd.Env = sandbox.InitArg, inside.Environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  newNamespaces(NetHost),
		Pdeathsig:   unix.SIGKILL,
		Setsid:      true,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		c.OK, c.Detail = true, "userxattr works; a directory of the lower layer can be removed"
	case errors.As(err, &exit) && len(out) > 0:
		c.Detail, c.Fix = string(bytes.TrimSpace(out)), "use Linux 5.11 or later with the overlay module; or "+sandbox.UserNSFix()
	default:
		c.Detail, c.Fix = startError(err).Error(), sandbox.UserNSFix()
	}
	return c
}

// checkIDMap looks for the ranges of subordinate ids and the tools that map them.
func checkIDMap() tap.Check {
	c := tap.Check{Name: "subordinate ids"}
	caller, err := userns.Load()
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	if _, err := caller.Default(); err != nil {
		c.Detail, c.Fix = err.Error(), caller.Mend()
		return c
	}
	c.Detail = fmt.Sprintf("%d for %s", caller.Available(), caller.Name)
	if c.OK = caller.Available() >= userns.WantIDs; !c.OK {
		c.Detail += fmt.Sprintf(", want %d", userns.WantIDs)
		c.Fix = caller.Mend()
	}
	return c
}

// checkCgroup finds out whether the caller may make groups under its own, which
// limits on memory or CPU need.
func checkCgroup() tap.Check {
	c := tap.Check{Name: "cgroup delegation"}
	dir, err := ownCgroup()
	have, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	_, there := scope.Own(os.Getenv)
	_, limits := Limits{Memory: 1, CPUs: 1, Pids: 1}.files()
	m, _ := membershipOf("self") // what is wrong with that, ownCgroup has told
	isLimit := func(c string) bool { return slices.Contains(limits, c) }
	legacy := slices.DeleteFunc(slices.Clone(limits), func(c string) bool { return !slices.Contains(m.legacy, c) })
	switch {
	case err != nil:
		c.Detail, c.Fix = "containers have no limits: "+err.Error(), unifiedFix
	case len(legacy) > 0:
		c.Detail, c.Fix = fmt.Sprintf("containers have no limit by the controllers of cgroup v1, %s", strings.Join(legacy, ", ")), unifiedFix
	case unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) == nil && slices.ContainsFunc(strings.Fields(string(have)), isLimit):
		c.OK, c.Detail = true, fmt.Sprintf("%s is the caller's, with %s", dir, strings.TrimSpace(string(have)))
	case there:
		c.OK, c.Detail = true, "systemd gives one to each container with limits"
	default:
		c.Detail, c.Fix = dir+" is not the caller's, or has no controllers; containers have no limits", "log in through systemd, or run under: systemd-run --user --scope -p Delegate=yes"
	}
	return c
}
