// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Exit codes of a container whose command did not run, those of chroot(1) and
// Podman.
const (
	exitOurs          = 125 // the launcher failed
	exitNotExecutable = 126 // the command is there and cannot be executed
	exitNotFound      = 127 // the command is not there
	exitSignal        = 128 // plus the signal that ended the command
)

// A Failure is why a container did not start, as its init stage reports it.
type Failure struct {
	Code int    // the exit code: 125, 126 or 127
	Text string // one line that says what and what to do
}

// Error returns the text.
func (f *Failure) Error() string { return f.Text }

// failureOf gives err an exit code: the Failure in it, or 125.
func failureOf(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Code: exitOurs, Text: err.Error()}
}

// Sysctl files that decide whether a plain user may make a user namespace.
const (
	sysctlMaxUserNS      = "/proc/sys/user/max_user_namespaces"
	sysctlAppArmorUserNS = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
	sysctlDebianUserNS   = "/proc/sys/kernel/unprivileged_userns_clone"
)

// userNSFix names the command that mends a refused user namespace, by what the
// host's sysctls say.
func userNSFix() string {
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

// startError says what to do about an init stage that could not be started.
func startError(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("make namespaces: %w; to mend it: %s", err, userNSFix())
	}
	return fmt.Errorf("start the init stage: %w", err)
}
