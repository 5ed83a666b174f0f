// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"strings"
)

// Sysctl files that decide whether a plain user may make a user namespace.
const (
	sysctlMaxUserNS      = "/proc/sys/user/max_user_namespaces"
	sysctlAppArmorUserNS = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
	sysctlDebianUserNS   = "/proc/sys/kernel/unprivileged_userns_clone"
)

// UserNSFix names the command that mends a refused user namespace, by what the
// host's sysctls say.
func UserNSFix() string {
	switch {
	case sysctlIs(sysctlAppArmorUserNS, "1"):
		return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with 'userns,' for this binary"
	case sysctlIs(sysctlDebianUserNS, "0"):
		return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
	case sysctlIs(sysctlMaxUserNS, "0"):
		return "sudo sysctl -w user.max_user_namespaces=15000"
	}
	return "allow user namespaces (inside a container: its seccomp profile forbids them)"
}

// sysctlIs reports whether the sysctl file has the value.
func sysctlIs(path, value string) bool {
	b, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(b)) == value
}
