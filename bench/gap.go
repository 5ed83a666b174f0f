// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tunPath is the device from which helpers make the container's interface
// (Documentation/networking/tuntap.rst in the kernel).
const tunPath = "/dev/net/tun"

// A Gap is what this machine cannot measure: all cases under one congestion
// control, or one kind of case.
type Gap struct {
	Congestion string `json:"congestion,omitempty"`
	Cases      string `json:"cases,omitempty"` // what their names begin with
	Why        string `json:"why"`             // and what to do about it
}

// covers reports whether the gap is one of the case under the congestion control.
func (g Gap) covers(c Case, congestion string) bool {
	if g.Cases != "" {
		return strings.HasPrefix(c.Name(), g.Cases)
	}
	return g.Congestion == congestion
}

// gap returns why the case is not run under the congestion control, or the empty
// string.
func (p Plan) gap(c Case, congestion string) string {
	for _, g := range p.Gaps {
		if g.covers(c, congestion) {
			return g.Why
		}
	}
	return ""
}

// runs reports whether the step is to be run.
func (p Plan) runs(s step) bool { return s.Subject.Missing == "" && p.gap(s.Case, s.Congestion) == "" }

// probePrograms finds out, as the plain user and before anything is measured, what
// the subjects need and this machine lacks.
func (s *stage) probePrograms() {
	if err := openTun(tunPath); err != nil {
		s.loseHelpers(err)
	}
	s.needPrograms(iperfPrefix, "iperf3")
	s.needPrograms(podmanPrefix, podmanPrograms[:]...)
}

// needPrograms leaves out the cases whose names begin with prefix where one of the
// programs is missing.
func (s *stage) needPrograms(prefix string, programs ...string) {
	if !slices.ContainsFunc(s.plan.cases(), func(c Case) bool { return strings.HasPrefix(c.Name(), prefix) }) {
		return
	}
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			s.plan.Gaps = append(s.plan.Gaps, Gap{Cases: prefix, Why: fmt.Sprintf("%[1]s is not installed: install the package %[1]s", name)})
		}
	}
}

// loseHelpers leaves only the direct path to be measured.
func (s *stage) loseHelpers(why error) {
	for i := range s.plan.Subjects {
		if t := &s.plan.Subjects[i]; t.Tool != directName && t.Missing == "" {
			t.Missing = why.Error()
		}
	}
}

// probeNetwork builds the topology once for each congestion control. It returns an
// error where nothing can be measured.
func (s *stage) probeNetwork(ctx context.Context) error {
	var errs []error
	tried := false // to make a container
	for _, name := range s.plan.Congestion {
		topo, err := newTopology(topologyConfig{Congestion: name})
		if err == nil {
			if !tried {
				tried = true
				if err := tryContainer(ctx, topo); err != nil && ctx.Err() == nil {
					s.loseHelpers(explainNamespaces(err, readFile))
				}
			}
			topo.close()
			continue
		}
		if !errors.Is(err, errCongestion) {
			return explainNamespaces(fmt.Errorf("build the topology: %w", err), readFile)
		}
		why := congestionRemedy(name, readFile("/proc/sys/net/ipv4/tcp_available_congestion_control"))
		errs = append(errs, errors.New(why))
		s.plan.Gaps = append(s.plan.Gaps, Gap{Congestion: name, Why: why})
	}
	if len(errs) == len(s.plan.Congestion) {
		return errors.Join(errs...)
	}
	return nil
}

// tryContainer makes a container, which is a user namespace within the stage's, and
// uses a capability in it: some machines give the one and not the other.
func tryContainer(ctx context.Context, topo *topology) error {
	c, err := startRemote(topo.host, "container", true)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.call(ctx, 0, "lo", nil, nil); err != nil {
		// The error of another process is text: its errno is lost.
		return fmt.Errorf("%w: %w", err, fs.ErrPermission)
	}
	return nil
}

// congestionRemedy says what to do about a congestion control that the machine does
// not have; available is the kernel's list.
func congestionRemedy(name, available string) string {
	return fmt.Sprintf("congestion control %q is not available (there are: %s): load it as root with `modprobe tcp_%s`, or choose another with -cc",
		name, strings.Join(strings.Fields(available), ", "), name)
}

// openTun opens the device as every helper does.
func openTun(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return unix.Close(fd)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("no container can get an interface: open %s: %w: as root, `modprobe tun` and look that the device is there", path, err)
	default:
		return fmt.Errorf("no container can get an interface: open %s: %w: as root, `chmod 0666 %s`", path, err, path)
	}
}

// A userNamespaceSetting is a switch that keeps user namespaces from plain users.
type userNamespaceSetting struct {
	path, off string // the file, and what it holds where namespaces are off
	set       string // what makes them work
}

// userNamespaceSettings are the kernel's (user_namespaces(7)), Debian's and Ubuntu's.
var userNamespaceSettings = [...]userNamespaceSetting{
	{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=10000"},
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"},
}

// explainNamespaces adds to an error about permissions the setting that causes it
// and the command that changes it. read returns a file's content, or nothing.
func explainNamespaces(err error, read func(path string) string) error {
	refused := errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS) || errors.Is(err, unix.EINVAL)
	if !refused {
		return err
	}
	for _, s := range userNamespaceSettings {
		if strings.TrimSpace(read(s.path)) == s.off {
			return fmt.Errorf("%w: %s is %s: as root, `sysctl -w %s`", err, s.path, s.off, s.set)
		}
	}
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: as many namespaces as user.max_user_namespaces or user.max_net_namespaces allows are there: as root, raise it with `sysctl -w`", err)
	}
	return fmt.Errorf("%w: this machine keeps user and network namespaces from plain users (in a container, its seccomp filter may): see user_namespaces(7), or run it outside", err)
}

// checkOut makes sure, before half an hour of measuring, that the report can be
// written to the path. It leaves nothing behind but directories.
func checkOut(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("-out: the report could not be written: %w: choose another place", err)
	}
	_, statErr := os.Stat(path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("-out: the report could not be written: %w: choose another place", err)
	}
	f.Close()
	if errors.Is(statErr, fs.ErrNotExist) {
		return os.Remove(path)
	}
	return nil
}
