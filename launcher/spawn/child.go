// SPDX-License-Identifier: Apache-2.0

package spawn

import (
	"syscall"
	"unsafe"

	"github.com/slipway-net/slipway/tap/rawfork"
	"golang.org/x/sys/unix"
)

// enter is all that the child does.
//
//go:nosplit
//go:norace
//go:nocheckptr
func enter(arg unsafe.Pointer) {
	p := (*plan)(arg)
	p.told.step = stepMap
	if p.own {
		for i := range p.writes {
			if errno := put(&p.writes[i]); errno != 0 {
				fail(p, errno)
			}
		}
	} else {
		p.told.step = stepKeep
		if errno := keep(p); errno != 0 {
			fail(p, errno)
		}
	}
	p.told.step = stepPlace
	if errno := place(p); errno != 0 {
		fail(p, errno)
	}
	p.told.step = stepFiles
	if errno := pass(p); errno != 0 {
		fail(p, errno)
	}
	p.told.step = stepExecute
	rawfork.Unblock()
	_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(p.exe), uintptr(unsafe.Pointer(p.empty)),
		uintptr(unsafe.Pointer(p.argv)), uintptr(unsafe.Pointer(p.envv)), unix.AT_EMPTY_PATH, 0)
	fail(p, errno)
}

// put writes a file by one write(2), as id maps want it.
//
//go:nosplit
//go:norace
//go:nocheckptr
func put(w *write) syscall.Errno {
	cwd := unix.AT_FDCWD
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(cwd), uintptr(unsafe.Pointer(w.path)), unix.O_WRONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if _, _, errno = syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(w.content)), w.size); errno != 0 {
		return errno
	}
	syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	return 0
}

// keep makes all capabilities ambient: without an id that is mapped to 0, execve(2) would
// drop them.
//
//go:nosplit
//go:norace
//go:nocheckptr
func keep(p *plan) syscall.Errno {
	header, data := uintptr(unsafe.Pointer(&p.caps.header)), uintptr(unsafe.Pointer(&p.caps.data[0]))
	if _, _, errno := syscall.RawSyscall(unix.SYS_CAPGET, header, data, 0); errno != 0 {
		return errno
	}
	p.caps.data[0].Inheritable, p.caps.data[1].Inheritable = p.caps.data[0].Permitted, p.caps.data[1].Permitted
	if _, _, errno := syscall.RawSyscall(unix.SYS_CAPSET, header, data, 0); errno != 0 {
		return errno
	}
	all := uint64(p.caps.data[0].Permitted) | uint64(p.caps.data[1].Permitted)<<32
	for c := uintptr(0); all != 0; c, all = c+1, all>>1 {
		if all&1 == 0 {
			continue
		}
		if _, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0, 0); errno != 0 {
			return errno
		}
	}
	return 0
}

// place gives the process a session, "/" as its directory, and its timer slack, and has it
// die with the caller.
//
//go:nosplit
//go:norace
//go:nocheckptr
func place(p *plan) syscall.Errno {
	if _, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0); errno != 0 {
		return errno
	}
	if p.slack != 0 {
		if _, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, p.slack, 0, 0, 0, 0); errno != 0 {
			return errno
		}
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0); errno != 0 {
		return errno
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(p.root)), 0, 0)
	return errno
}

// pass puts the descriptors in place, and has execve(2) close all others. That of the
// binary and those of the files may lie where others are to be, so all are duplicated
// first.
//
//go:nosplit
//go:norace
//go:nocheckptr
func pass(p *plan) syscall.Errno {
	exe, errno := duplicate(p.exe)
	if errno != 0 {
		return errno
	}
	p.exe = exe
	for i := 0; i < p.count; i++ {
		if p.files[i], errno = duplicate(p.files[i]); errno != 0 {
			return errno
		}
	}
	for i := 0; i < p.count; i++ {
		if _, _, errno := syscall.RawSyscall(unix.SYS_DUP3, uintptr(p.files[i]), uintptr(i), 0); errno != 0 {
			return errno
		}
	}
	_, _, errno = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, uintptr(p.count), uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	return errno
}

//go:nosplit
//go:norace
//go:nocheckptr
func duplicate(fd int) (int, syscall.Errno) {
	dup, _, errno := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFree)
	return int(dup), errno
}

// fail tells why the last step failed, and ends the child.
//
//go:nosplit
//go:norace
//go:nocheckptr
func fail(p *plan, errno syscall.Errno) {
	p.told.errno = int32(errno)
	syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
}
