// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock returns the version of the rules that this kernel's Landlock knows, or why
// it cannot be had. It changes nothing.
func Landlock() (version int, err error) { return landlockVersion() }

// Filter returns why a filter of system calls cannot be had here. It changes nothing.
func Filter() error {
	if _, err := auditArch(); err != nil {
		return err
	}
	action := uint32(kill)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return fmt.Errorf("this kernel cannot filter system calls by seccomp: it takes Linux 4.14 with CONFIG_SECCOMP_FILTER: %w", errno)
	}
	return nil
}
