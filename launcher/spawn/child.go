// SPDX-License-Identifier: Apache-2.0

package spawn

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// enter is what the child does before it executes.
//
//go:nosplit
//go:norace
//go:nocheckptr
func enter(arg unsafe.Pointer) {
	p := (*plan)(arg)
	told := p.program.Told
	told.Step = stepMap
	if p.own {
		for i := range p.writes {
			if errno := put(&p.writes[i]); errno != 0 {
				p.program.Fail(errno)
			}
		}
	} else {
		told.Step = stepKeep
		if errno := keep(p); errno != 0 {
			p.program.Fail(errno)
		}
	}
	told.Step = stepPlace
	if errno := place(p); errno != 0 {
		p.program.Fail(errno)
	}
	p.program.Execute()
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

// place gives the process "/" as its directory, and its timer slack.
//
//go:nosplit
//go:norace
//go:nocheckptr
func place(p *plan) syscall.Errno {
	if p.slack != 0 {
		if _, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, p.slack, 0, 0, 0, 0); errno != 0 {
			return errno
		}
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(p.root)), 0, 0)
	return errno
}
