// SPDX-License-Identifier: Apache-2.0

package launcher

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

// capWordBits is the number of capabilities in one word.
const capWordBits = 32

// capName is a capability's name in the spec and its number in the kernel
// (include/uapi/linux/capability.h).
type capName struct {
	name string
	bit  uint
}

// defaultCaps are the capabilities that Podman gives by default
// (containers.conf(5), default_capabilities), and CAP_NET_RAW, as Docker does: the
// file system is the host's, where ping has that capability as a file capability,
// and execve(2) refuses a program whose capabilities cannot be had.
func defaultCaps() []capName {
	return []capName{
		{"CAP_CHOWN", unix.CAP_CHOWN},
		{"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE},
		{"CAP_FOWNER", unix.CAP_FOWNER},
		{"CAP_FSETID", unix.CAP_FSETID},
		{"CAP_KILL", unix.CAP_KILL},
		{"CAP_NET_BIND_SERVICE", unix.CAP_NET_BIND_SERVICE},
		{"CAP_NET_RAW", unix.CAP_NET_RAW},
		{"CAP_SETFCAP", unix.CAP_SETFCAP},
		{"CAP_SETGID", unix.CAP_SETGID},
		{"CAP_SETPCAP", unix.CAP_SETPCAP},
		{"CAP_SETUID", unix.CAP_SETUID},
		{"CAP_SYS_CHROOT", unix.CAP_SYS_CHROOT},
	}
}

// DefaultCapabilities returns the names of the capabilities that a command has:
// those that Podman gives by default, and CAP_NET_RAW. The slice is the caller's.
func DefaultCapabilities() []string {
	var names []string
	for _, c := range defaultCaps() {
		names = append(names, c.name)
	}
	return names
}

// capMask makes a set of the capabilities named, each of which must be one of the
// default set.
func capMask(names []string) (uint64, error) {
	var mask uint64
next:
	for _, n := range names {
		for _, c := range defaultCaps() {
			if c.name == n {
				mask |= 1 << c.bit
				continue next
			}
		}
		return 0, fmt.Errorf("capability %q is not one a container can have", n)
	}
	return mask, nil
}

// dropCaps leaves the calling thread, and what it executes, the capabilities in
// bounding and permitted and no way to gain others. The caller must have locked
// its goroutine to the thread.
func dropCaps(bounding, permitted uint64) error {
	for c := uint(0); ; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err == unix.EINVAL { // one above the kernel's last
			break
		}
		if err != nil {
			return fmt.Errorf("read bounding capability %d: %w", c, err)
		}
		if has == 0 || bounding&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("drop bounding capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	hdr, data := capSets(permitted)
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// dropCapsEverywhere leaves every thread of the process the capabilities in
// permitted alone. In a binary with cgo, as tests may be built, the runtime does
// not know every thread (ENOTSUP); pid 1 is then guarded by being untraceable.
func dropCapsEverywhere(permitted uint64) error {
	hdr, data := capSets(permitted)
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&hdr)
	runtime.KeepAlive(&data)
	if errno != 0 && errno != unix.ENOTSUP {
		return fmt.Errorf("set capabilities of pid 1: %w", errno)
	}
	return nil
}

// capSets is mask as capset(2) takes it: effective and permitted, nothing
// inheritable.
func capSets(mask uint64) (unix.CapUserHeader, [capWords]unix.CapUserData) {
	var data [capWords]unix.CapUserData
	for i := range data {
		w := uint32(mask >> (i * capWordBits))
		data[i] = unix.CapUserData{Effective: w, Permitted: w}
	}
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, data
}
