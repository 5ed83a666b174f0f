// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// The program that the containers run is made here, since no machine is sure to have
// one that is static and starts as fast: it writes a line that only it knows, waits for
// a byte or the end of its standard input, and ends with 0. All that it costs is what
// the kernel takes to execute anything at all.

// Where the program is loaded: not at 0, which the kernel keeps empty.
const programBase = 0x400000

// programSizes are those of the headers of an ELF file of 64 bits (elf(5)).
const (
	elfHeaderSize  = 64
	progHeaderSize = 56
)

// A programCode is the program of one architecture. The line follows it directly.
type programCode struct {
	machine elf.Machine
	// code returns the machine code for a line of so many bytes.
	code func(line int) []byte
}

// programCodes are by GOARCH.
var programCodes = map[string]programCode{
	"amd64": {elf.EM_X86_64, func(line int) []byte {
		return concatBytes(
			[]byte{0xb8, 1, 0, 0, 0},                // mov  eax, 1 (write)
			[]byte{0xbf, 1, 0, 0, 0},                // mov  edi, 1
			[]byte{0x48, 0x8d, 0x35, 0x20, 0, 0, 0}, // lea  rsi, [rip+32], the line
			[]byte{0xba}, le32(uint32(line)),        // mov  edx, line
			[]byte{0x0f, 0x05},                         // syscall
			[]byte{0x31, 0xc0, 0x31, 0xff},             // xor  eax, eax (read); xor edi, edi
			[]byte{0x48, 0x89, 0xe6, 0xba, 1, 0, 0, 0}, // mov  rsi, rsp; mov edx, 1
			[]byte{0x0f, 0x05},                         // syscall
			[]byte{0xb8, 60, 0, 0, 0, 0x31, 0xff},      // mov  eax, 60 (exit); xor edi, edi
			[]byte{0x0f, 0x05},                         // syscall
			[]byte{0xcc, 0xcc},                         // int3, twice: nothing comes back
		)
	}},
	"arm64": {elf.EM_AARCH64, func(line int) []byte {
		return concatBytes(
			le32(0xd2800808),                 // mov  x8, 64 (write)
			le32(0xd2800020),                 // mov  x0, 1
			le32(0x10000161),                 // adr  x1, 44 further on, the line
			le32(0xd2800002|uint32(line)<<5), // mov  x2, line
			le32(0xd4000001),                 // svc  0
			le32(0xd28007e8),                 // mov  x8, 63 (read)
			le32(0xd2800000),                 // mov  x0, 0
			le32(0x910003e1),                 // mov  x1, sp
			le32(0xd2800022),                 // mov  x2, 1
			le32(0xd4000001),                 // svc  0
			le32(0xd2800ba8),                 // mov  x8, 93 (exit)
			le32(0xd2800000),                 // mov  x0, 0
			le32(0xd4000001),                 // svc  0
		)
	}},
}

// makeProgram returns the program for an architecture, as an ELF file.
func makeProgram(arch, line string) ([]byte, error) {
	p, ok := programCodes[arch]
	if !ok {
		return nil, fmt.Errorf("make the program that containers run: none is known for %s", arch)
	}
	body := append(p.code(len(line)), line...)
	size := uint64(elfHeaderSize + progHeaderSize + len(body))
	head := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(p.machine), Version: uint32(elf.EV_CURRENT),
		Entry: programBase + elfHeaderSize + progHeaderSize,
		Phoff: elfHeaderSize, Ehsize: elfHeaderSize, Phentsize: progHeaderSize, Phnum: 1,
	}
	copy(head.Ident[:], elf.ELFMAG)
	head.Ident[elf.EI_CLASS], head.Ident[elf.EI_DATA], head.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	segment := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
		Vaddr: programBase, Paddr: programBase, Filesz: size, Memsz: size, Align: 0x10000, // pages of any size
	}
	var b bytes.Buffer
	for _, part := range []any{head, segment, body} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			return nil, fmt.Errorf("make the program that containers run: %w", err)
		}
	}
	return b.Bytes(), nil
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

func concatBytes(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
