// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Check is what was found about one thing that slipway needs or can use of the
// machine, seen with the rights of the calling process.
type Check struct {
	Name   string // what was looked at, a few words
	OK     bool   // it is there and may be used
	Detail string // what was found; empty where OK says it all
	Fix    string // what to do where OK is false: a command where there is one
}

// verdict returns the check that failed with err, or passed where that is nil.
func verdict(name string, err error, fix string) Check {
	if err == nil {
		return Check{Name: name, OK: true}
	}
	return Check{Name: name, Detail: err.Error(), Fix: fix}
}

// remakeTun puts the tun device in the place of another file; its numbers are in
// Documentation/admin-guide/devices.txt.
const remakeTun = "sudo sh -c 'rm " + tunPath + "; mknod -m 666 " + tunPath + " c 10 200'"

// CheckTun reports whether the device that makes taps can be opened.
func CheckTun() Check {
	const name = "tun device"
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		if _, err = unix.IoctlGetUint32(fd, unix.TUNGETFEATURES); err == nil {
			return verdict(name, nil, "")
		}
	}
	fix := "sudo modprobe tun"
	switch {
	case errors.Is(err, unix.ENOTTY):
		fix = remakeTun
	case errors.Is(err, unix.EACCES):
		fix = "sudo chmod 666 " + tunPath
	case errors.Is(err, unix.EPERM):
		fix = "start the surrounding container with --device " + tunPath
	}
	return verdict(name, fmt.Errorf("open %s: %w", tunPath, err), fix)
}

// userNSLimits are the settings that keep a user from making user namespaces,
// each with its value that does so and one that does not.
var userNSLimits = [...]struct{ key, bad, good string }{
	{"kernel.unprivileged_userns_clone", "0", "1"}, // Debian's kernels
	{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
	{"user.max_user_namespaces", "0", "15000"},
	{"user.max_net_namespaces", "0", "15000"},
}

// CheckUserNS makes a user namespace and a network namespace in it.
func CheckUserNS() Check {
	const name = "user namespaces"
	s, err := newScript()
	if err != nil {
		return verdict(name, err, "")
	}
	defer s.close()
	s.unshare()
	if err = s.run(); err == nil {
		return verdict(name, nil, "")
	}
	for _, l := range userNSLimits {
		if sysctl(l.key) == l.bad {
			return verdict(name, fmt.Errorf("%w (%s is %s)", err, l.key, l.bad), "sudo sysctl -w "+l.key+"="+l.good)
		}
	}
	return verdict(name, err, "allow user namespaces in the surrounding container, such as by another seccomp profile")
}

// unshare appends what makes the child the lord of new namespaces.
func (s *script) unshare() {
	s.call("make a user namespace", unix.SYS_UNSHARE, [4]uintptr{unix.CLONE_NEWUSER})
	s.call("make a network namespace", unix.SYS_UNSHARE, [4]uintptr{unix.CLONE_NEWNET})
}

// CheckPing reports whether our groups may open unprivileged ICMP sockets, which
// carry the container's pings (icmp(7), ping_group_range).
func CheckPing() Check {
	const (
		name = "ping"
		key  = "net.ipv4.ping_group_range"
		fix  = `sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"`
	)
	var lo, hi int
	if _, err := fmt.Sscan(sysctl(key), &lo, &hi); err != nil {
		return verdict(name, fmt.Errorf("read %s: %w", key, err), "mount /proc")
	}
	groups, err := os.Getgroups()
	if err != nil {
		return verdict(name, fmt.Errorf("get our groups: %w", err), "")
	}
	groups = append(groups, os.Getegid())
	if slices.ContainsFunc(groups, func(g int) bool { return lo <= g && g <= hi }) {
		return verdict(name, nil, "")
	}
	var in []string
	for _, g := range groups {
		in = append(in, strconv.Itoa(g))
	}
	return verdict(name, fmt.Errorf("%s is %d to %d, our groups are %s", key, lo, hi, strings.Join(in, ", ")), fix)
}

// sysctl returns the value of a kernel setting, empty where it cannot be read.
func sysctl(key string) string {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
