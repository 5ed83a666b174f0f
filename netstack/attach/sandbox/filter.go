// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (include/uapi/linux/seccomp.h), which a filter is
// given.
const (
	numberAt = 0
	archAt   = 4
	argsAt   = 16
	argSize  = 8
	wordSize = 4
)

// A verdict is what becomes of a system call: a filter's return value.
type verdict uint32

const (
	// allow lets it through.
	allow verdict = unix.SECCOMP_RET_ALLOW
	// refuse has it fail as something that is not permitted, where callers go on.
	refuse verdict = unix.SECCOMP_RET_ERRNO | verdict(unix.EACCES)
	// unknown has it fail as on a kernel that does not have it. That is for all that
	// is in no list: a newer Go runtime may try what it can do without.
	unknown verdict = unix.SECCOMP_RET_ERRNO | verdict(unix.ENOSYS)
	// kill ends the process at once, by SIGSYS, and the kernel logs it.
	kill verdict = unix.SECCOMP_RET_KILL_PROCESS
)

// A call is what the filter says of a system call: what the first case that holds
// says, else the other verdict.
type call struct {
	number    uintptr
	cases     []clause
	otherwise verdict
}

// A clause holds where all of its tests do.
type clause struct {
	when []test
	then verdict
}

// A test holds where an argument, as much of it as the mask has, is the value. Only
// the lower 32 bits are looked at: the arguments tested are int, or unsigned long of
// which the kernel takes no more.
type test struct {
	arg   uint32
	mask  uint32
	value uint32
}

// all is the mask of a whole argument.
const all = 1<<32 - 1

// is tests a whole argument.
func is(arg, value uint32) test { return test{arg, all, value} }

// without tests that an argument has none of the bits.
func without(arg, bits uint32) test { return test{arg, bits, 0} }

// auditArch names our architecture as a filter is told of it. Both that there is a
// list of calls for have the lower half of an argument first.
func auditArch() (uint32, error) {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64, nil
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64, nil
	}
	return 0, errors.New("there is no list of system calls for " + runtime.GOARCH)
}

// filter installs the filter in all threads, and returns how many system calls it
// lets through. The process must have no_new_privs.
func filter(n needs) (int, error) {
	arch, err := auditArch()
	if err != nil {
		return 0, err
	}
	calls := n.calls()
	program, err := assemble(arch, calls)
	if err != nil {
		return 0, fmt.Errorf("assemble filter: %w", err)
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// Under cgo, Drop has left this out.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("give up new privileges: %w", err)
	}
	// What does not pass is logged by the kernel (audit), also where it only fails.
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_LOG, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno != 0:
		return 0, fmt.Errorf("install filter: %w", errno)
	case tid != 0:
		return 0, fmt.Errorf("install filter: thread %d has another one", tid)
	}
	passing := 0
	for _, c := range calls {
		if c.passes() {
			passing++
		}
	}
	return passing, nil
}

// passes reports whether the call is let through in some case.
func (c call) passes() bool {
	for _, cl := range c.cases {
		if cl.then == allow {
			return true
		}
	}
	return c.otherwise == allow
}

// assemble makes the filter's program of the calls, in their order. Those that are
// let through whatever their arguments cost nothing, since the kernel runs the filter
// once for each of them, in advance (seccomp_cache_prepare of kernel/seccomp.c, Linux
// 5.11); of the others, those that are called most come first.
func assemble(arch uint32, calls []call) ([]unix.SockFilter, error) {
	load := func(at uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: at, Size: wordSize} }
	program := []bpf.Instruction{
		load(archAt),
		// Other conventions of the same kernel, such as that of 32 bits, have other
		// numbers. x32 has these, plus a bit that none in the list has.
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch, SkipTrue: 1},
		ret(kill),
		load(numberAt),
	}
	for _, c := range calls {
		block := c.block(load)
		if len(block) > maxSkip {
			return nil, fmt.Errorf("system call %d has too many cases", c.number)
		}
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(c.number), SkipTrue: uint8(len(block))})
		program = append(program, block...)
	}
	raw, err := bpf.Assemble(append(program, ret(unknown)))
	if err != nil {
		return nil, err
	}
	out := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		out[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return out, nil
}

// maxSkip is how far a conditional jump reaches.
const maxSkip = 1<<8 - 1

// block is the part of the program that decides on the call. It always decides.
func (c call) block(load func(uint32) bpf.Instruction) []bpf.Instruction {
	var out []bpf.Instruction
	for _, cl := range c.cases {
		// Each test is three instructions; where it fails, all that follow are
		// passed over, and the clause's verdict.
		const perTest = 3
		for i, t := range cl.when {
			left := perTest*(len(cl.when)-i-1) + 1
			out = append(out, load(argsAt+argSize*t.arg),
				bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: t.mask},
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: t.value, SkipTrue: uint8(left)})
		}
		out = append(out, ret(cl.then))
	}
	return append(out, ret(c.otherwise))
}

func ret(v verdict) bpf.Instruction { return bpf.RetConstant{Val: uint32(v)} }
