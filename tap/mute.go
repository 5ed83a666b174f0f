// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// mutedFrames bounds the frames that Mute drops: the length of a tap's queue.
const mutedFrames = 1000

// Mute drops what the container's kernel has sent by itself when the interface came up,
// and what it goes on to send: reports of multicast listeners, to ff02::16 (RFC 9777), for
// which there is no router here. So the device becomes readable when a process sends
// something. It is for the time before there is one, since all frames are dropped that wait
// already. Unmute ends it.
func (d *Device) Mute() error {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4}, // the hardware address that it goes to
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x33330000, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x0016, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1<<32 - 1}, // whole
	})
	if err != nil {
		return fmt.Errorf("assemble the tap's filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.TUNATTACHFILTER, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return fmt.Errorf("filter what the tap sends: %w", errno)
	}
	var b [1]byte // the rest of a frame goes with its beginning
	for range mutedFrames {
		if _, err := unix.Read(d.fd, b[:]); err != nil && err != unix.EINTR {
			break
		}
	}
	return nil
}

// Unmute ends what Mute began.
func (d *Device) Unmute() error {
	prog := unix.SockFprog{}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.TUNDETACHFILTER, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("end the tap's filter: %w", errno)
	}
	return nil
}
