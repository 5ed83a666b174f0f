// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns"
)

// unifiedPath is where a machine with control groups of both versions has the second
// (systemd's hybrid hierarchy).
const unifiedPath = "/sys/fs/cgroup/unified"

// prepareLaunch finds out who runs the engines, as whom the front's credential is, and
// what of the machine they cannot stand.
func (f *front) prepareLaunch(cred *syscall.Credential) error {
	plan, m := f.report.Plan.Launch, &f.report.Machine
	plan.User = f.opts.User
	who := userns.Caller{}
	if cred == nil {
		var err error
		if who, err = userns.Load(); err != nil {
			return err
		}
		plan.User = who.Name
		if _, err := who.Default(); err != nil {
			m.Warnings = append(m.Warnings, fmt.Sprintf("containers have one uid: %v", err))
		}
		return nil
	}
	if !listsUser(readFile("/etc/subuid"), plan.User, cred.Uid) || !listsUser(readFile("/etc/subgid"), plan.User, cred.Gid) {
		return fmt.Errorf("-user %s: /etc/subuid or /etc/subgid gives that user no subordinate ids, without which no image can be run: choose another, or as root `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %[1]s`", plan.User)
	}
	return f.hideUnified()
}

// listsUser reports whether subuid(5) gives ids to the user by name or number.
func listsUser(s, name string, id uint32) bool {
	for l := range strings.Lines(s) {
		who, _, _ := strings.Cut(strings.TrimSpace(l), ":")
		if who == name || who == fmt.Sprint(id) {
			return true
		}
	}
	return false
}

// hideUnified hides control groups of the second version from all engines where there
// are those of the first as well, since crun takes no such machine. It does so in a
// mount namespace of the bench.
func (f *front) hideUnified() error {
	var s unix.Statfs_t
	if err := unix.Statfs(unifiedPath, &s); err != nil || s.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	err := f.home.do(func() error {
		// The thread's own, with its working directory: children inherit them.
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return err
		}
		return unix.Mount("tmpfs", unifiedPath, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	})
	if err != nil {
		return fmt.Errorf("hide %s: %w", unifiedPath, err)
	}
	f.report.Machine.Warnings = append(f.report.Machine.Warnings,
		fmt.Sprintf("%s is hidden from all engines, since crun takes no machine with control groups of both versions; none of them makes any", unifiedPath))
	return nil
}

// shown is the command line of a step for the record, with what differs between runs
// left out.
func (y *yard) shown(s step) []string {
	if s.Subject.Tool == directName {
		return []string{programName, "LINE"}
	}
	e := tools()[s.Subject.Tool].engine
	c, ok := s.Case.(launchStart)
	if e == nil || e.run == nil || !ok {
		return nil
	}
	all := concat([]string{filepath.Base(s.Subject.Path)}, e.run(container{yard: y, Name: "NAME", Network: c.network, Extra: s.Subject.Extra}))
	for i, word := range all {
		word = strings.ReplaceAll(word, y.dir+string(os.PathSeparator), "")
		all[i] = strings.ReplaceAll(word, y.line, "LINE")
	}
	return all
}
