// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capabilities is a set of capabilities: bit n is the one with the number n in
// include/uapi/linux/capability.h. The zero Capabilities is none.
type Capabilities uint64

// The capabilities that a helper has a use for (capabilities(7)).
const (
	// NetBindService lets a process have ports below 1024. It counts on the host
	// only for a process that root started there.
	NetBindService Capabilities = 1 << unix.CAP_NET_BIND_SERVICE
	// NetAdmin lets it change the network namespaces that belong to its user
	// namespace.
	NetAdmin Capabilities = 1 << unix.CAP_NET_ADMIN
)

// The capabilities that an empty root takes to make (mount(2), setns(2)).
const makeRoot Capabilities = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_CHROOT

// A set is in capWords words of wordBits (_LINUX_CAPABILITY_U32S_3).
const (
	capWords = 2
	wordBits = 32
)

// String names the set as capabilities(7) does, "none" the empty one.
func (c Capabilities) String() string {
	var names []string
	for _, n := range []struct {
		set  Capabilities
		name string
	}{{NetBindService, "CAP_NET_BIND_SERVICE"}, {NetAdmin, "CAP_NET_ADMIN"}} {
		if c&n.set != 0 {
			names = append(names, n.name)
			c &^= n.set
		}
	}
	if c != 0 {
		names = append(names, fmt.Sprintf("%#x", uint64(c)))
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, " ")
}

// Drop gives up, in all threads, every capability but those to keep, and the ability
// to get any by executing a program (PR_SET_NO_NEW_PRIVS of prctl(2)). It returns
// those that are left: what the process has of those to keep, permitted and
// effective, and not inherited by programs. It cannot be taken back.
//
// In a program built with cgo the Go runtime cannot reach all threads. There a
// process without other capabilities stays as it is, which for one that executes
// nothing is the same, and a process with some gets an error.
func Drop(keep Capabilities) (Capabilities, error) {
	has, err := held()
	if err != nil {
		return 0, err
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	if errno == unix.ENOTSUP {
		if has&^keep != 0 {
			return has, errors.New("give up privileges: this program was built with cgo: build it with CGO_ENABLED=0")
		}
		return has, nil
	}
	if errno != 0 {
		return has, fmt.Errorf("give up new privileges: %w", errno)
	}
	keep &= has
	if err := boundBy(keep, has); err != nil {
		return has, err
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
		return has, fmt.Errorf("give up capabilities: %w", errno)
	}
	return keep, nil
}

// LowPorts returns the capability to bind to ports below 1024, if the process has it:
// for a Policy to Keep, where ports are to be published later.
func LowPorts() Capabilities {
	has, err := held()
	if err != nil {
		return 0 // Enter will say what is wrong
	}
	return has & NetBindService
}

// boundBy takes what is not in keep out of the bounding set of all threads, where
// a process that has those capabilities may do that. Where not, no_new_privs alone
// has to do.
func boundBy(keep, has Capabilities) error {
	if has&(1<<unix.CAP_SETPCAP) == 0 {
		return nil
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
