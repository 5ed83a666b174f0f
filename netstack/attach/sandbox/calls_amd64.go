// SPDX-License-Identifier: Apache-2.0

package sandbox

import "golang.org/x/sys/unix"

// archPlain are calls that are let through and that other architectures lack.
func archPlain() []uintptr { return []uintptr{unix.SYS_POLL} }

// archDeadly are calls that end the process and that other architectures lack.
func archDeadly() []uintptr {
	return []uintptr{unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_MODIFY_LDT, unix.SYS_IOPL, unix.SYS_IOPERM}
}
