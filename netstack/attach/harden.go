// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Harden gives up what the process no longer needs once its session is set up:
// every capability, in all of its threads, and the ability to get any by
// executing a program (PR_SET_NO_NEW_PRIVS of prctl(2)). Sockets for traffic need
// none. It cannot be taken back.
//
// In a program built with cgo the Go runtime cannot reach all threads. There a
// process without capabilities stays as it is, which for one that executes
// nothing is the same, and a process with some gets an error.
func Harden() error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	if errno == unix.ENOTSUP {
		return checkPowerless()
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

// checkPowerless returns an error where the process has a capability.
func checkPowerless() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if data[0].Permitted|data[1].Permitted != 0 {
		return errors.New("give up privileges: this program was built with cgo: build it with CGO_ENABLED=0")
	}
	return nil
}
