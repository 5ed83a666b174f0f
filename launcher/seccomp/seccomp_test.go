// SPDX-License-Identifier: Apache-2.0

package seccomp_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/seccomp"
)

// Answers of a filter, as the kernel has them.
const (
	allow  = 0x7fff0000
	errno  = 0x00050000
	eperm  = errno | uint32(unix.EPERM)
	enosys = errno | uint32(unix.ENOSYS)
)

// Architectures, as the kernel calls them.
const (
	x8664   = unix.AUDIT_ARCH_X86_64
	i386    = unix.AUDIT_ARCH_I386
	aarch64 = unix.AUDIT_ARCH_AARCH64
)

// readTable reads a table as go generate has written it.
func readTable(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join("tables", name+".txt"))
	return string(b), err
}

// numbers are the system calls of a table.
func numbers(t *testing.T, name string) map[string]uint32 {
	t.Helper()
	text, err := readTable(name)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]uint32)
	for line := range strings.Lines(text) {
		number, call, ok := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(number, 10, 32); ok && err == nil {
			all[call] = uint32(n)
		}
	}
	return all
}

// A filter runs a program as the kernel does.
type filter struct{ vm *bpf.VM }

func newFilter(t *testing.T, program []byte) filter {
	t.Helper()
	var code []bpf.Instruction
	for i := 0; i+8 <= len(program); i += 8 {
		raw := bpf.RawInstruction{Op: binary.LittleEndian.Uint16(program[i:]), Jt: program[i+2], Jf: program[i+3], K: binary.LittleEndian.Uint32(program[i+4:])}
		code = append(code, raw.Disassemble())
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatal(err)
	}
	return filter{vm}
}

// answer is that for a call. The machine here is one of networks: its words are
// big-endian, in the places where a little-endian kernel has them.
func (f filter) answer(t *testing.T, arch, number uint32, args ...uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[0:], number)
	binary.BigEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	n, err := f.vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// TestGenerated compares what is linked in with what would be made now.
func TestGenerated(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"amd64", "arm64"} {
		for _, class := range seccomp.Classes() {
			name := seccomp.ProgramName(arch, class)
			want, err := seccomp.CompileDefault(arch, class, readTable)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join("programs", name))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what the profile says (%v): run go generate ./launcher/seccomp", name, err)
			}
		}
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	program, err := seccomp.CompileDefault("amd64", []string{"CAP_SYS_CHROOT"}, readTable)
	if err != nil {
		t.Fatal(err)
	}
	f, amd64, compat := newFilter(t, program), numbers(t, "x86_64"), numbers(t, "i386")
	admin, err := seccomp.CompileDefault("amd64", []string{"CAP_SYS_ADMIN"}, readTable)
	if err != nil {
		t.Fatal(err)
	}
	g := newFilter(t, admin)
	const newuser, thread = unix.CLONE_NEWUSER, unix.CLONE_THREAD
	tests := []struct {
		name string
		f    filter
		arch uint32
		call uint32
		args []uint64
		want uint32
	}{
		{"read", f, x8664, amd64["read"], nil, allow},
		{"read of a 32-bit program", f, i386, compat["read"], nil, allow},
		{"the other's number", f, i386, amd64["keyctl"], nil, allow}, // fremovexattr there
		{"keyctl", f, x8664, amd64["keyctl"], nil, eperm},
		{"keyctl of a 32-bit program", f, i386, compat["keyctl"], nil, eperm},
		{"reboot", f, x8664, amd64["reboot"], nil, eperm},
		{"chroot", f, x8664, amd64["chroot"], nil, allow},
		{"chroot without the capability", g, x8664, amd64["chroot"], nil, eperm},
		{"mount", f, x8664, amd64["mount"], nil, eperm},
		{"mount with the capability", g, x8664, amd64["mount"], nil, allow},
		{"clone of a thread", f, x8664, amd64["clone"], []uint64{thread}, allow},
		{"clone into a user namespace", f, x8664, amd64["clone"], []uint64{newuser}, eperm},
		{"clone with flags above 32 bits", f, x8664, amd64["clone"], []uint64{newuser | 1<<40}, eperm},
		{"clone3", f, x8664, amd64["clone3"], nil, enosys},
		{"clone3 with the capability", g, x8664, amd64["clone3"], nil, allow},
		{"personality of Linux", f, x8664, amd64["personality"], []uint64{0}, allow},
		{"personality of others", f, x8664, amd64["personality"], []uint64{0x1234}, eperm},
		{"personality in the high half", f, x8664, amd64["personality"], []uint64{1 << 32}, eperm},
		{"vsock", f, x8664, amd64["socket"], []uint64{unix.AF_VSOCK}, eperm},
		{"inet", f, x8664, amd64["socket"], []uint64{unix.AF_INET}, allow},
		{"unknown", f, x8664, 900, nil, enosys},
		{"x32", f, x8664, 0x40000000 | amd64["read"], nil, enosys},
		{"no such architecture", f, aarch64, amd64["read"], nil, enosys},
		{"minus one", f, x8664, ^uint32(0), nil, enosys},
	}
	for _, tt := range tests {
		if got := tt.f.answer(t, tt.arch, tt.call, tt.args...); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
}

// TestComparisons tries each comparison below, at and above its value, in both halves.
func TestComparisons(t *testing.T) {
	t.Parallel()
	const value = 5<<32 | 7
	near := []uint64{0, 7, 6, 8, 5 << 32, value - 1, value, value + 1, 4<<32 | 7, 4<<32 | 8, 6<<32 | 7, 6<<32 | 6, ^uint64(0)}
	ops := map[string]func(a uint64) bool{
		"SCMP_CMP_EQ": func(a uint64) bool { return a == value },
		"SCMP_CMP_NE": func(a uint64) bool { return a != value },
		"SCMP_CMP_LT": func(a uint64) bool { return a < value },
		"SCMP_CMP_LE": func(a uint64) bool { return a <= value },
		"SCMP_CMP_GT": func(a uint64) bool { return a > value },
		"SCMP_CMP_GE": func(a uint64) bool { return a >= value },
		// Of MASKED_EQ, value is the mask.
		"SCMP_CMP_MASKED_EQ": func(a uint64) bool { return a&value == 4<<32|2 },
	}
	self := numbers(t, seccomp.Tables("amd64")[0])["read"]
	for op, holds := range ops {
		profile := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"args":[{"index":3,"value":` +
			strconv.FormatUint(value, 10) + `,"valueTwo":` + strconv.FormatUint(4<<32|2, 10) + `,"op":"` + op + `"}]}]}`
		program, err := seccomp.Compile([]byte(profile), nil)
		if err != nil {
			t.Skipf("%v", err) // on a machine without a table, which the error says
		}
		f := newFilter(t, program)
		for _, a := range append(near, 4<<32|2, 0xf<<32|0xa) {
			want := uint32(allow)
			if holds(a) {
				want = enosys
			}
			if got := f.answer(t, x8664, self, 0, 0, 0, a); got != want {
				t.Errorf("%s of %#x: %#x, want %#x", op, a, got, want)
			}
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/x"}`))
	f.Add([]byte(`{"syscalls":[null]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, profile []byte) {
		program, err := seccomp.Compile(profile, nil)
		if err == nil && (len(program) == 0 || len(program)%8 != 0) {
			t.Errorf("a program of %d bytes", len(program))
		}
	})
}
