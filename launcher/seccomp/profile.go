// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Numbers of errors that answers have.
const (
	enosys = uint32(unix.ENOSYS)
	eperm  = uint32(unix.EPERM)
)

// maxArgs is the number of arguments that a system call has.
const maxArgs = 6

// A table has the system calls of one architecture.
type table struct {
	audit     uint32 // AUDIT_ARCH_*
	refuseX32 bool
	numbers   map[string]uint32
}

// parseTable reads what go generate wrote: the audit number in hexadecimal digits, then
// a line for each call, its number and name.
func parseTable(text string) (table, error) {
	head, rest, _ := strings.Cut(text, "\n")
	audit, err := strconv.ParseUint(head, 16, 32)
	if err != nil {
		return table{}, fmt.Errorf("table of system calls: %w", err)
	}
	t := table{audit: uint32(audit), refuseX32: audit == unix.AUDIT_ARCH_X86_64, numbers: make(map[string]uint32)}
	for line := range strings.Lines(rest) {
		number, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return table{}, fmt.Errorf("table of system calls: %w", err)
		}
		t.numbers[name] = uint32(n)
	}
	return t, nil
}

// compile makes the program of a profile for the architectures of the tables.
func compile(p *specs.LinuxSeccomp, tables []table) ([]byte, error) {
	if p.ListenerPath != "" {
		return nil, errors.New("seccomp profile: a listener (listenerPath) is not supported")
	}
	denied, err := answer(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	unknown := denied
	if denied == retErrno|eperm {
		unknown = retErrno | enosys
	}
	var byArch []archCode
	for _, t := range tables {
		rules, err := rulesFor(p, t)
		if err != nil {
			return nil, err
		}
		end := slices.Max(slices.Collect(maps.Values(t.numbers))) + 1
		byArch = append(byArch, archCode{audit: t.audit, refuseX32: t.refuseX32, code: tree(spans(rules, end, denied, unknown))})
	}
	return program(byArch)
}

// rulesFor are the rules of a profile by the numbers of one architecture. Names that it
// does not have are of others.
func rulesFor(p *specs.LinuxSeccomp, t table) (map[uint32][]rule, error) {
	rules := make(map[uint32][]rule)
	for _, s := range p.Syscalls {
		a, err := answer(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, err
		}
		sets, err := conditionSets(s.Args)
		if err != nil {
			return nil, fmt.Errorf("seccomp profile: %s: %w", strings.Join(s.Names, ", "), err)
		}
		for _, name := range s.Names {
			n, ok := t.numbers[name]
			if !ok {
				continue
			}
			for _, when := range sets {
				rules[n] = append(rules[n], rule{when: when, answer: a})
			}
		}
	}
	for n := range rules {
		// A rule for all arguments comes after those for some, wherever the profile has it.
		slices.SortStableFunc(rules[n], func(a, b rule) int { return min(len(b.when), 1) - min(len(a.when), 1) })
	}
	return rules, nil
}

// conditionSets are the conditions of a rule, all of which must be met; those of
// several on the same argument are alternatives, as runc and crun have it.
func conditionSets(args []specs.LinuxSeccompArg) ([][]condition, error) {
	var all []condition
	seen, again := map[uint]bool{}, false
	for _, a := range args {
		c, err := newCondition(a)
		if err != nil {
			return nil, err
		}
		again = again || seen[c.arg]
		seen[c.arg] = true
		all = append(all, c)
	}
	if !again {
		return [][]condition{all}, nil
	}
	var sets [][]condition
	for _, c := range all {
		sets = append(sets, []condition{c})
	}
	return sets, nil
}

func newCondition(a specs.LinuxSeccompArg) (condition, error) {
	c := condition{arg: a.Index, mask: ^uint64(0), value: a.Value}
	if a.Index >= maxArgs {
		return c, fmt.Errorf("argument %d: a system call has %d", a.Index, maxArgs)
	}
	switch a.Op {
	case specs.OpEqualTo:
		c.op = bpf.JumpEqual
	case specs.OpNotEqual:
		c.op, c.negate = bpf.JumpEqual, true
	case specs.OpGreaterThan:
		c.op = bpf.JumpGreaterThan
	case specs.OpLessEqual:
		c.op, c.negate = bpf.JumpGreaterThan, true
	case specs.OpGreaterEqual:
		c.op = bpf.JumpGreaterOrEqual
	case specs.OpLessThan:
		c.op, c.negate = bpf.JumpGreaterOrEqual, true
	case specs.OpMaskedEqual:
		c.op, c.mask, c.value = bpf.JumpEqual, a.Value, a.ValueTwo
	default:
		return c, fmt.Errorf("comparison %q is not known", a.Op)
	}
	return c, nil
}

// answer is what a filter returns for an action.
func answer(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch action {
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActErrno, specs.ActTrace:
		ret, n := uint32(retErrno), eperm
		if action == specs.ActTrace {
			ret, n = retTrace, 0
		}
		if errno != nil {
			n = uint32(*errno & 0xffff)
		}
		return ret | n, nil
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActLog:
		return retLog, nil
	}
	return 0, fmt.Errorf("seccomp profile: action %q is not supported", action)
}

// encode is a program as struct sock_filter has it on a little-endian machine.
func encode(raw []bpf.RawInstruction) []byte {
	var b []byte
	for _, r := range raw {
		b = binary.LittleEndian.AppendUint16(b, r.Op)
		b = append(b, r.Jt, r.Jf)
		b = binary.LittleEndian.AppendUint32(b, r.K)
	}
	return b
}
