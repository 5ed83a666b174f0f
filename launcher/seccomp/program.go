// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// Offsets in struct seccomp_data (include/uapi/linux/seccomp.h). Both architectures
// that there are tables for are little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
	argSize   = 8
	wordSize  = 4
)

// Answers of a filter; the low 16 bits of an errno's are the number
// (include/uapi/linux/seccomp.h).
const (
	retKillProcess = 0x80000000
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000
)

// x32 is the bit that amd64's x32 ABI sets in numbers; none of it is allowed.
const x32 = 0x40000000

// A condition compares one argument with a value: argument & mask op value.
type condition struct {
	arg         uint
	op          bpf.JumpTest // JumpEqual, JumpNotEqual, JumpGreaterThan or JumpGreaterOrEqual
	negate      bool         // the opposite of op
	mask, value uint64
}

// A rule answers a system call whose arguments meet all conditions.
type rule struct {
	when   []condition
	answer uint32
}

// A span is a range of system call numbers with the same rules, from first up to the
// next span's. Rules are tried in order; otherwise is the answer if none holds.
type span struct {
	first     uint32
	rules     []rule
	otherwise uint32
}

// spans turns rules by number into ranges that cover every number: those without a rule
// below end have the answer denied, those from end on unknown.
func spans(rules map[uint32][]rule, end, denied, unknown uint32) []span {
	var all []span
	add := func(s span) {
		last := len(all) - 1
		if last >= 0 && len(s.rules) == 0 && len(all[last].rules) == 0 && s.otherwise == all[last].otherwise {
			return
		}
		all = append(all, s)
	}
	for n := range end {
		s := span{first: n, otherwise: denied}
		for _, r := range rules[n] {
			if len(r.when) == 0 { // whatever the arguments are
				s.otherwise = r.answer
				break
			}
			s.rules = append(s.rules, r)
		}
		add(s)
	}
	add(span{first: end, otherwise: unknown})
	return all
}

// tree is the code that finds the span of the number in the accumulator and answers.
func tree(all []span) []bpf.Instruction {
	if len(all) == 1 {
		return all[0].code()
	}
	middle := len(all) / 2
	left, right := tree(all[:middle]), tree(all[middle:])
	code := []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: all[middle].first, SkipFalse: 1}, bpf.Jump{Skip: uint32(len(left))}}
	if len(left) <= maxSkip {
		code = []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: all[middle].first, SkipTrue: uint8(len(left))}}
	}
	return slices.Concat(code, left, right)
}

// maxSkip is how far a conditional jump reaches.
const maxSkip = 255

func (s span) code() []bpf.Instruction {
	var code []bpf.Instruction
	for _, r := range s.rules {
		code = append(code, r.code()...)
	}
	return append(code, bpf.RetConstant{Val: s.otherwise})
}

// code answers if all conditions are met and falls through if not.
func (r rule) code() []bpf.Instruction {
	code := []bpf.Instruction{bpf.RetConstant{Val: r.answer}}
	for _, c := range slices.Backward(r.when) {
		code = append(c.code(len(code)), code...)
	}
	return code
}

// code falls through if the condition is met, and else skips so many instructions more.
// The halves of the argument are compared one after the other.
func (c condition) code(skip int) []bpf.Instruction {
	high := c.load(wordSize, uint32(c.mask>>32))
	low := c.load(0, uint32(c.mask))
	vh, vl := uint32(c.value>>32), uint32(c.value)
	miss, hit := uint8(skip), uint8(0)
	if c.negate {
		miss, hit = hit, miss
	}
	n := uint8(len(low) + 1)
	last := bpf.JumpIf{Cond: c.op, Val: vl, SkipTrue: hit, SkipFalse: miss}
	var first []bpf.Instruction
	if c.op == bpf.JumpGreaterThan || c.op == bpf.JumpGreaterOrEqual {
		first = []bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: vh, SkipTrue: n + 1 + hit},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: vh, SkipFalse: n + miss},
		}
	} else {
		first = []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: vh, SkipFalse: n + miss}}
	}
	return slices.Concat(high, first, low, []bpf.Instruction{last})
}

func (c condition) load(half, mask uint32) []bpf.Instruction {
	code := []bpf.Instruction{bpf.LoadAbsolute{Off: offArgs + argSize*uint32(c.arg) + half, Size: wordSize}}
	if mask != 0xffffffff {
		code = append(code, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
	}
	return code
}

// program joins the code of each architecture, which has the number in the accumulator.
func program(byArch []archCode) ([]byte, error) {
	code := []bpf.Instruction{bpf.LoadAbsolute{Off: offArch, Size: wordSize}}
	for _, a := range byArch {
		body := []bpf.Instruction{bpf.LoadAbsolute{Off: offNumber, Size: wordSize}}
		if a.refuseX32 {
			body = append(body, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32, SkipFalse: 1}, bpf.RetConstant{Val: retErrno | enosys})
		}
		body = append(body, a.code...)
		code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: a.audit, SkipTrue: 1}, bpf.Jump{Skip: uint32(len(body))})
		code = append(code, body...)
	}
	code = append(code, bpf.RetConstant{Val: retErrno | enosys})
	if len(code) > maxInstructions {
		return nil, fmt.Errorf("the filter has %d instructions; the kernel takes %d", len(code), maxInstructions)
	}
	raw, err := bpf.Assemble(code)
	if err != nil {
		return nil, fmt.Errorf("assemble the filter: %w", err)
	}
	return encode(raw), nil
}

// maxInstructions is BPF_MAXINSNS (include/uapi/linux/bpf_common.h).
const maxInstructions = 4096

// archCode is the code for one architecture.
type archCode struct {
	audit     uint32 // AUDIT_ARCH_*
	refuseX32 bool
	code      []bpf.Instruction
}
