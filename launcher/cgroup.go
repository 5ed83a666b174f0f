// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/scope"
)

// cpuPeriod is the period in microseconds of which cpu.max gives a share (the kernel's
// default).
const cpuPeriod = 100_000

// supervisorGroup is the name of the group that this process moves to: a group with
// limits on its children may have no process itself (cgroups(7), "no internal
// processes").
const supervisorGroup = "supervisor"

// limitedGroup makes the group of the container with that name. Where systemd runs, this
// process moves to a scope that is delegated to it, unless its group is its own alone.
func limitedGroup(name string, l Limits) (*cgroup, error) {
	m, err := membershipOf("self")
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	_, controllers := l.files()
	if err := checkLegacy(m, controllers); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	pid := os.Getpid()
	own, err := ownCgroup()
	if err != nil || !ownAlone(own, pid) {
		// Without a scope, what there is may do; if it does not, both is told.
		if serr := ownScope("run", pid); serr == nil {
			own, err = ownCgroup()
		} else if err == nil && !errors.Is(serr, errNoSystemd) {
			g, err := newCgroup(own, name, l, pid)
			if err != nil {
				err = fmt.Errorf("%w (%w)", err, serr)
			}
			return g, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	return newCgroup(own, name, l, pid)
}

// ownAlone reports whether the group in dir may be changed, and has no process but pid.
func ownAlone(dir string, pid int) bool {
	procs := filepath.Join(dir, "cgroup.procs")
	b, err := os.ReadFile(procs)
	return err == nil && unix.Access(procs, unix.W_OK) == nil && strings.TrimSpace(string(b)) == strconv.Itoa(pid)
}

// errNoSystemd says that no systemd is there to ask.
var errNoSystemd = errors.New("no systemd")

// ownScope moves a process, this one or a child of it, to a scope that is delegated to
// us. The word tells what it is for.
func ownScope(word string, pid int) error {
	m, ok := scope.Own(os.Getenv)
	if !ok {
		return errNoSystemd
	}
	return m.Start(context.Background(), scope.Unit{
		Name: fmt.Sprintf("slipway-%s-%d", word, pid), Description: "slipway " + word, PIDs: []int{pid}, Delegate: true,
	})
}

// A cgroup is the control group of one container, below the caller's own.
type cgroup struct {
	parent string // the caller's own
	dir    string
	fd     int // dir, opened
}

// newCgroup makes the group name with the limits below own, a directory of a cgroup v2
// file system that was delegated to the caller, and moves the process pid, this one,
// aside there. Its errors say what mends them.
func newCgroup(own, name string, l Limits, pid int) (*cgroup, error) {
	files, controllers := l.files()
	have, err := os.ReadFile(filepath.Join(own, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("limits: look for delegated controllers: %w; to mend it: %s", err, delegateFix)
	}
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(have)), c) {
			return nil, fmt.Errorf("limits: the %s controller is not delegated to you; to mend it: %s", c, delegateFix)
		}
	}
	aside := filepath.Join(own, supervisorGroup)
	if err := os.Mkdir(aside, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("limits: %w; to mend it: %s", err, delegateFix)
	}
	if err := writeFile(filepath.Join(aside, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		return nil, fmt.Errorf("limits: move to a group of our own: %w; to mend it: %s", err, delegateFix)
	}
	err = writeFile(filepath.Join(own, "cgroup.subtree_control"), "+"+strings.Join(controllers, " +"))
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("limits: other processes are in %s; to mend it: %s", own, delegateFix)
	}
	if err != nil {
		return nil, fmt.Errorf("limits: enable controllers: %w; to mend it: %s", err, delegateFix)
	}
	g := &cgroup{parent: own, dir: filepath.Join(own, name), fd: -1}
	if err := g.fill(files); err != nil {
		g.close()
		return nil, fmt.Errorf("limits: %w", err)
	}
	return g, nil
}

// delegateFix is what gives a plain user control groups to limit.
const delegateFix = "systemd-run --user --scope -p Delegate=yes slipway run …, and, for --cpus, 'Delegate=cpu memory pids' in a drop-in of user@.service"

// dirMode is the mode of a new control group.
const dirMode = 0o755

// fill makes the group's directory and writes the limits.
func (g *cgroup) fill(files map[string]string) error {
	if err := os.Mkdir(g.dir, dirMode); err != nil {
		return err
	}
	for _, name := range sortedKeys(files) {
		if err := writeFile(filepath.Join(g.dir, name), files[name]); err != nil {
			return err
		}
	}
	var err error
	g.fd, err = unix.Open(g.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return err
}

// files are what the limits are in a group's files, and the controllers they need.
func (l Limits) files() (files map[string]string, controllers []string) {
	files = make(map[string]string)
	if l.CPUs > 0 {
		files["cpu.max"] = fmt.Sprintf("%d %d", int64(l.CPUs*cpuPeriod), cpuPeriod)
		controllers = append(controllers, "cpu")
	}
	if l.Memory > 0 {
		files["memory.max"] = strconv.FormatInt(l.Memory, 10)
		controllers = append(controllers, "memory")
	}
	if l.Pids > 0 {
		files["pids.max"] = strconv.FormatInt(l.Pids, 10)
		controllers = append(controllers, "pids")
	}
	return files, controllers
}

// check says what of the limits cannot be.
func (l Limits) check() error {
	if l.CPUs < 0 || l.CPUs > 0 && l.CPUs < minCPUs || l.Memory < 0 || l.Pids < 0 {
		return fmt.Errorf("%w: limits: want positive numbers, and at least %g CPUs", ErrUsage, minCPUs)
	}
	return nil
}

// minCPUs is the least share of a processor that the kernel takes: a millisecond in
// each period.
const minCPUs = 0.01

// close kills what is left in the group and removes it.
func (g *cgroup) close() {
	if g.fd >= 0 {
		unix.Close(g.fd)
	}
	_ = writeFile(filepath.Join(g.dir, "cgroup.kill"), "1") // since Linux 5.14; the namespace's end does the same
	_ = unix.Rmdir(g.dir)                                   // a group with a process that is about to end goes with the scope
}

// groupPrefix begins the names of containers' groups.
const groupPrefix = "container-"

// joinGroup moves the process pid, a child of ours, to the control group of a container,
// whose first process is init, if that has one of its own: what limits the container
// limits what joins it. From a session's group the way there leads through one that
// systemd gives, since a group above both must be the caller's.
func joinGroup(init, pid int) error {
	dir, err := cgroupOf(strconv.Itoa(init))
	if err != nil || !strings.HasPrefix(filepath.Base(dir), groupPrefix) {
		return nil // without limits there is no group
	}
	err = joinGroupAt(dir, pid)
	if errors.Is(err, fs.ErrPermission) && ownScope("exec", pid) == nil {
		err = joinGroupAt(dir, pid)
	}
	if err != nil {
		return fmt.Errorf("%w: start slipway exec in the scope that the container was started in", err)
	}
	return nil
}

// joinGroupAt moves the process pid to the group in dir.
func joinGroupAt(dir string, pid int) error {
	if err := writeFile(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("join the container's control group: %w", err)
	}
	return nil
}

func writeFile(name, content string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}
