// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// explain turns what went wrong with the socket of a rule for one port into an error
// that says what to do. With search it finds out who has a port that is in use,
// which takes some ms.
func (l lowPorts) explain(r Rule, err error, search bool) error {
	kind, why, socket := error(nil), "", uint32(0)
	var step *stepError
	if !errors.As(err, &step) {
		step = &stepError{}
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE) && r.HostPort == 0:
		kind, why = ErrInUse, "the host has no port left to choose: name one, or widen the sysctl net.ipv4.ip_local_port_range"
	case errors.Is(err, unix.EADDRINUSE):
		kind, why = ErrInUse, portText(r)+" is in use"
		if search {
			var who string
			who, socket = holder(r)
			why += who
		}
	case errors.Is(err, unix.EACCES) && step.step == stepBind:
		kind, why = ErrPrivileged, l.privileged(r)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		kind, why = ErrNotOurs, r.Host.String()+" is no address of this host: `ip address` lists those it has"
	case errors.Is(err, unix.ENODEV):
		kind, why = ErrNoInterface, "this host has no interface "+r.Interface+": `ip link` lists those it has"
	case errors.Is(err, unix.EPERM) && step.step == stepInterface:
		why = "this kernel, older than Linux 5.7, lets only root bind to an interface: publish at the interface's address"
	case errors.Is(err, unix.EMFILE):
		kind, why = ErrTooMany, fmt.Sprintf("this process may have no more than %s descriptors: raise that with `ulimit -n` and start again, or publish fewer ports", fileLimit())
	case errors.Is(err, unix.ENFILE):
		kind, why = ErrTooMany, "this host may have no more open files: raise the sysctl fs.file-max"
	}
	if why == "" {
		return fmt.Errorf("publish %s: %w", r, err)
	}
	if kind == nil {
		kind = step.err
	}
	return &failure{kind: kind, text: fmt.Sprintf("publish %s: %s", r, why), cause: err, socket: socket}
}

// privileged tells a port that only root may have from one that is forbidden by
// something else.
func (l lowPorts) privileged(r Rule) string {
	start := l.start()
	if int(r.HostPort) >= start {
		return "the host's security policy (SELinux, AppArmor or a cgroup) forbids the port: ask its administrator"
	}
	return fmt.Sprintf("only root may have ports of this host below %d: run `sudo sysctl net.ipv4.ip_unprivileged_port_start=%d`, "+
		"or `sudo setcap cap_net_bind_service=ep %s` and start it again, or publish at a port from %[1]d on", start, r.HostPort, l.program)
}

func fileLimit() string {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return "its limit of"
	}
	return strconv.FormatUint(lim.Cur, 10)
}

// portText names the host's port of a rule, and where it is.
func portText(r Rule) string {
	s := "host port " + strconv.Itoa(int(r.HostPort)) + "/" + string(r.Proto)
	if r.Host.IsValid() {
		s += " at " + r.Host.String()
	} else {
		s += " at every address"
	}
	if r.Interface != "" {
		s += " of " + r.Interface
	}
	return s
}
