// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capWords is the number of 32-bit words in a capability set
// (_LINUX_CAPABILITY_U32S_3 in include/uapi/linux/capability.h).
const capWords = 2

// maxCaps is the number of capabilities that a set has room for.
const maxCaps = 64

// dropBounding takes every capability but those in bounding out of the calling
// thread's bounding set, and all out of its ambient set.
func dropBounding(bounding uint64) error {
	for c := range uint(maxCaps) {
		if bounding&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if err == unix.EINVAL { // one above the kernel's last
			break
		}
		if err != nil {
			return fmt.Errorf("drop bounding capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	return nil
}

// setCaps gives the calling thread permitted and effective capabilities, and those of
// ambient to keep when it executes.
func setCaps(permitted, ambient uint64) error {
	hdr, data := capSets(permitted, ambient)
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	for c := range uint(maxCaps) {
		if ambient&(1<<c) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
			return fmt.Errorf("raise ambient capability %d: %w", c, err)
		}
	}
	return nil
}

// dropCapsEverywhere leaves every thread of the process the capabilities in
// permitted alone. In a binary with cgo, as tests may be built, the runtime does
// not know every thread (ENOTSUP); pid 1 is then guarded by being untraceable.
func dropCapsEverywhere(permitted uint64) error {
	hdr, data := capSets(permitted, 0)
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&hdr)
	runtime.KeepAlive(&data)
	if errno != 0 && errno != unix.ENOTSUP {
		return fmt.Errorf("set capabilities of all threads: %w", errno)
	}
	return nil
}

// capSets is a pair of masks as capset(2) takes it. Nothing is inheritable but what
// becomes ambient (CVE-2022-29162).
func capSets(permitted, inheritable uint64) (unix.CapUserHeader, [capWords]unix.CapUserData) {
	const wordBits = maxCaps / capWords
	var data [capWords]unix.CapUserData
	for i := range data {
		w := uint32(permitted >> (i * wordBits))
		data[i] = unix.CapUserData{Effective: w, Permitted: w, Inheritable: uint32(inheritable >> (i * wordBits))}
	}
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, data
}

// becomeEverywhere gives every thread of the process the user id uid, which clears the
// capabilities of those that were root.
func becomeEverywhere(uid int) error {
	id := uintptr(uid)
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_SETRESUID, id, id, id)
	if errno != 0 && errno != unix.ENOTSUP { // see dropCapsEverywhere
		return fmt.Errorf("make pid 1 user %d: %w", uid, errno)
	}
	return nil
}
