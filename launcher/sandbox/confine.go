// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confine gives the calling thread, to which the caller has locked its goroutine, the
// rights that p has for id, and no way to others. What it executes inherits them. The
// order is: keys, while everything is allowed; the bounding set; ids; what is left of the
// capabilities; and, after our own last system call but execve, the filter. Resource
// limits, which are a process's and not a thread's, are apart (setLimits).
func confine(p *Process, id identity) error {
	if err := restrict(p, id); err != nil || !p.NoNewPrivs {
		return err
	}
	return filter(p.Seccomp, 0)
}

// restrict is confine but for the filter, unless that goes before other things.
func restrict(p *Process, id identity) error {
	// A session keyring is inherited by execve: without one of its own the
	// command would have the caller's keys (keyrings(7)).
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("make a session keyring: %w", err)
	}
	unix.Umask(int(p.Umask))
	if p.TimerSlack != 0 {
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(p.TimerSlack), 0, 0, 0); err != nil {
			return fmt.Errorf("set the timer slack: %w", err)
		}
	}
	if err := dropBounding(p.Bounding); err != nil {
		return err
	}
	if !p.NoNewPrivs {
		// Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
		if err := filter(p.Seccomp, 0); err != nil {
			return err
		}
	}
	if err := become(id); err != nil {
		return err
	}
	permitted, ambient := granted(p, id)
	if err := setCaps(permitted, ambient); err != nil {
		return err
	}
	// The change of ids put an end to it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to die with the supervisor: %w", err)
	}
	if !p.NoNewPrivs {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// granted are the capabilities that p has for id.
func granted(p *Process, id identity) (permitted, ambient uint64) {
	if id.uid == 0 {
		return p.Caps & p.Bounding, 0
	}
	caps := p.UserCaps & p.Bounding
	return caps, caps
}

// setLimits sets resource limits of the process.
func setLimits(limits []Rlimit) error {
	for _, l := range limits {
		if err := unix.Prlimit(0, int(l.Resource), &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
			return l.refused(err)
		}
	}
	return nil
}

// refused is the error of a limit that could not be set.
func (l Rlimit) refused(err error) error {
	err = fmt.Errorf("set resource limit %d to %d:%d: %w", l.Resource, l.Soft, l.Hard, err)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: the hard limit cannot be above the caller's own (ulimit -H)", err)
	}
	return err
}

// become gives the calling thread, and no other, the ids. Its permitted capabilities
// survive, for setCaps to choose among.
func become(id identity) error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	groups := make([]uint32, len(id.groups)+1) // never empty, so that it has an address
	for i, g := range id.groups {
		groups[i] = uint32(g)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(id.groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	runtime.KeepAlive(groups)
	switch {
	case errno == unix.EPERM && len(id.groups) == 0: // where one id is mapped, nobody may
	case errno != 0:
		return fmt.Errorf("set the groups %d: %w%s", id.groups, errno, unmapped(errno))
	}
	gid := uintptr(id.gid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("become group %d: %w%s", id.gid, errno, unmapped(errno))
	}
	uid := uintptr(id.uid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("become user %d: %w%s", id.uid, errno, unmapped(errno))
	}
	return nil
}

// unmapped says what mends an id that the container does not have.
func unmapped(errno unix.Errno) string {
	if errno == unix.EINVAL || errno == unix.EPERM {
		return ": the container's user namespace does not have it; subordinate ids give it more (slipway doctor tells how), or choose another --user or --userns"
	}
	return ""
}

// filter installs a seccomp filter on the calling thread, or, by
// SECCOMP_FILTER_FLAG_TSYNC, on all, which get its no_new_privs as well.
func filter(program []byte, flags uintptr) error {
	prog, err := assemble(program)
	if prog == nil || err != nil {
		return err
	}
	tid, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(prog)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return fmt.Errorf("install the seccomp filter: %w", errno)
	}
	if tid != 0 {
		return fmt.Errorf("install the seccomp filter: thread %d has another", tid)
	}
	return nil
}

// assemble is a filter as seccomp(2) takes it; nil is none.
func assemble(program []byte) (*unix.SockFprog, error) {
	if len(program) == 0 {
		return nil, nil
	}
	if !supportedFilter(len(program)) {
		return nil, fmt.Errorf("install the seccomp filter: %d instructions are too many", len(program)/bpfInstruction)
	}
	return &unix.SockFprog{
		Len:    uint16(len(program) / bpfInstruction),
		Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0])),
	}, nil
}

// supportedFilter reports whether the kernel takes a program of so many bytes
// (BPF_MAXINSNS in include/uapi/linux/bpf_common.h).
func supportedFilter(size int) bool {
	const maxInstructions = 4096
	return size/bpfInstruction <= maxInstructions
}
