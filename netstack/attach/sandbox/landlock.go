// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Versions of Landlock's rules from which on the kernel knows a right (landlock(7),
// "Landlock ABI versions").
const (
	versionRefer       = 2
	versionTruncate    = 3
	versionIoctlDev    = 5
	versionScope       = 6
	versionResolveUnix = 9
)

// errNoLandlock is for kernels without it, or that were started without it.
var errNoLandlock = errors.New("this kernel has no Landlock: it came with Linux 5.13, and has to be in the list of lsm= where the kernel's command line has one")

// landlock denies, in all threads, every access to a file that the places do not
// have, and returns the version of the rules. Descriptors that are open stay as they
// are. A process under Landlock cannot trace one that is not, which also keeps
// the memory, the root and the descriptors of others, in /proc, from it.
//
// Signals to others are left to the filter: a domain that forbids them kept threads,
// which get their domains one after the other, from signalling each other before
// Linux 6.15, and so the Go runtime from reaching all of them.
func landlock(p places) (version int, err error) {
	version, err = landlockVersion()
	if err != nil {
		return 0, err
	}
	handled := handledBy(version)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	if errno != 0 {
		return 0, fmt.Errorf("make rules of version %d: %w", version, errno)
	}
	defer unix.Close(int(fd))
	for _, at := range p.all {
		if err := at.allow(int(fd), handled.Handled_access_fs); err != nil {
			return 0, fmt.Errorf("allow access to %s: %w", at.path, err)
		}
	}
	_, _, errno = syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	if errno == unix.ENOTSUP {
		return 0, errors.New("this program was built with cgo: build it with CGO_ENABLED=0")
	}
	if errno != 0 {
		return 0, fmt.Errorf("put rules in force: %w", errno)
	}
	return version, nil
}

// landlockVersion asks the kernel for the newest version that it knows.
func landlockVersion() (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOSYS, unix.EOPNOTSUPP:
		return 0, errNoLandlock
	}
	return 0, fmt.Errorf("ask for the version of Landlock: %w", errno)
}

// handledBy returns all rights that a kernel of the version can deny, and that have
// to do with files, and the abstract Unix sockets of others.
func handledBy(version int) unix.LandlockRulesetAttr {
	const first = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // all rights of version 1
	a := unix.LandlockRulesetAttr{Handled_access_fs: first}
	for _, since := range []struct {
		version int
		right   uint64
	}{
		{versionRefer, unix.LANDLOCK_ACCESS_FS_REFER},
		{versionTruncate, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
		{versionIoctlDev, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
		{versionResolveUnix, unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX},
	} {
		if version >= since.version {
			a.Handled_access_fs |= since.right
		}
	}
	if version >= versionScope {
		a.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	return a
}

// change are the rights to the files of a directory of the process' own.
const change = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR |
	unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
	unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
	unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR

// allow adds what is done at the place to the rules. To look takes no right.
func (p place) allow(rules int, handled uint64) error {
	var rights uint64
	for use, right := range map[use]uint64{
		useRead:    unix.LANDLOCK_ACCESS_FS_READ_FILE,
		useRemove:  unix.LANDLOCK_ACCESS_FS_REMOVE_FILE,
		useConnect: unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX,
		useChange:  change,
		useClear:   unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE,
		usePrune:   unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR,
	} {
		if p.use&use != 0 {
			rights |= right & handled
		}
	}
	if rights == 0 {
		return nil
	}
	fd, err := unix.Open(p.path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	runtime.KeepAlive(&rule)
	if errno != 0 {
		return errno
	}
	return nil
}
