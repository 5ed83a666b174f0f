// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capabilities is a set of capabilities: bit n is the one with the number n in
// include/uapi/linux/capability.h. The zero Capabilities is none.
type Capabilities uint64

// What changes to a network namespace take, and ports below 1024 (capabilities(7)).
const (
	netAdmin       Capabilities = 1 << unix.CAP_NET_ADMIN
	netBindService Capabilities = 1 << unix.CAP_NET_BIND_SERVICE
)

// A set is in capWords words of wordBits (_LINUX_CAPABILITY_U32S_3).
const (
	capWords = 2
	wordBits = 32
)

// Harden gives up what the process no longer needs once its session is set up:
// every capability, in all of its threads, but those to keep, and the ability to
// get any by executing a program (PR_SET_NO_NEW_PRIVS of prctl(2)). Those kept are
// permitted and effective; they are not inherited by programs. Sockets for traffic
// need none; what the session needs says Session.Capabilities. It cannot be taken
// back.
//
// In a program built with cgo the Go runtime cannot reach all threads. There a
// process without other capabilities stays as it is, which for one that executes
// nothing is the same, and a process with some gets an error.
func Harden(keep Capabilities) error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	if errno == unix.ENOTSUP {
		return checkPowerless(keep)
	}
	if errno != 0 {
		return fmt.Errorf("give up new privileges: %w", errno)
	}
	if err := boundBy(keep); err != nil {
		return err
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [capWords]unix.CapUserData
	for i := range data {
		w := uint32(keep >> (wordBits * i))
		data[i] = unix.CapUserData{Permitted: w, Effective: w}
	}
	// Without anything inheritable nothing is left of the ambient set.
	_, _, errno = syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data)), 0)
	if errno != 0 {
		return fmt.Errorf("give up capabilities: %w", errno)
	}
	return nil
}

// LowPorts returns the capability to bind to ports below 1024, if the process has it:
// for Harden, where ports are to be published later.
func LowPorts() Capabilities {
	has, err := held()
	if err != nil {
		return 0 // to keep what we may not have is an error of Harden
	}
	return has & netBindService
}

// boundBy takes what is not in keep out of the bounding set of all threads, where
// we have the right to do that. Where not, no_new_privs alone has to do.
func boundBy(keep Capabilities) error {
	has, err := held()
	if err != nil || has&(1<<unix.CAP_SETPCAP) == 0 {
		return err
	}
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		// An error is EINVAL: the kernel does not know so many.
		bound, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil || bound == 0 || keep>>c&1 != 0 {
			continue
		}
		if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); errno != 0 {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, errno)
		}
	}
	return nil
}

// held returns the permitted capabilities of the calling thread.
func held() (Capabilities, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [capWords]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return Capabilities(data[0].Permitted) | Capabilities(data[1].Permitted)<<wordBits, nil
}

// checkPowerless returns an error where the process has a capability not to keep.
func checkPowerless(keep Capabilities) error {
	has, err := held()
	if err == nil && has&^keep != 0 {
		err = errors.New("give up privileges: this program was built with cgo: build it with CGO_ENABLED=0")
	}
	return err
}
