// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Harden gives up what the process no longer needs once its session is set up:
// every capability, in all of its threads, and the ability to get any by
// executing a program (PR_SET_NO_NEW_PRIVS of prctl(2)). Sockets for traffic need
// none. It cannot be taken back.
func Harden() error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	if errno == unix.ENOTSUP {
		// The Go runtime cannot reach threads that C code may have made.
		return fmt.Errorf("give up privileges: this program was built with cgo: build it with CGO_ENABLED=0")
	}
	if errno != 0 {
		return fmt.Errorf("give up new privileges: %w", errno)
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // all sets empty
	_, _, errno = syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data)), 0)
	if errno != 0 {
		return fmt.Errorf("give up capabilities: %w", errno)
	}
	return nil
}
