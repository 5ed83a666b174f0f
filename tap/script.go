// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A register holds the result of a step for later ones. All of them hold file
// descriptors, so that after a failure the parent closes what the child opened.
type register int8

const (
	regTap    register = iota // the tap
	regOuter                  // a netlink socket in the throw-away namespace
	regInner                  // a netlink socket in the target namespace
	regSysctl                 // files under /proc/sys, one after the other
	regNet                    // the file that tells the namespace of a process
	regInside                 // the first of what Config.Inside asks for
	regCount           = regInside + maxInside
	noReg     register = -1
)

// What a step does.
const (
	opCall    = iota // a system call
	opRequest        // send a netlink message and read its acknowledgement
	opAwait          // ask for a route until it is a local one
	opClose          // close the descriptor in a register
	opPatch          // copy 4 bytes from one buffer to another
)

// abort is a step's "otherwise" when its failure ends the script.
const abort = -1

// ackSize is room in bytes for a netlink acknowledgement. What does not fit,
// the echo of the message, is not needed.
const ackSize = 64

// How opAwait waits. With the slack that the kernel adds to a sleep (50 µs,
// prctl(2), PR_SET_TIMERSLACK) it takes up to half as long again.
const (
	awaitPause = 100 * time.Microsecond
	awaitLimit = 50 * time.Millisecond
	awaitTries = int(awaitLimit / awaitPause)
)

// Offsets in bytes in a netlink answer: nlmsg_type of struct nlmsghdr, and behind
// that rtm_type of struct rtmsg (include/uapi/linux/rtnetlink.h).
const (
	nlTypeAt    = 4
	routeTypeAt = unix.SizeofNlMsghdr + 7
)

// A step is one operation of the child: plain numbers only, since the child can
// neither allocate nor look at anything but what lies ready.
type step struct {
	op        int
	call      uintptr
	args      [4]uintptr
	in        register // whose value goes in place of args[0]
	out       register // that takes the result
	then      int      // index of the step to go on with
	otherwise int      // the same after an error, or abort
}

// A script is a list of steps made ready by the parent for the child, with the
// buffers they use. It is built, run once, read and closed, by one goroutine.
type script struct {
	steps []step
	what  []string // what each step does, for errors: verb and object
	hints map[int][]hint
	mem   []byte
	m     *shared
	err   error
}

// A hint says what an error of a step means to the user and what to do.
type hint struct {
	errno syscall.Errno
	text  string
}

func newScript() (*script, error) {
	mem, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(shared{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map memory for the set-up: %w", err)
	}
	s := &script{hints: map[int][]hint{}, mem: mem, m: (*shared)(unsafe.Pointer(&mem[0]))}
	for i := range s.m.regs {
		s.m.regs[i] = -1
	}
	s.m.pause = unix.NsecToTimespec(int64(awaitPause))
	return s, nil
}

// close frees the script and closes every descriptor that is still in one of
// its registers.
func (s *script) close() {
	for r := range s.m.regs {
		if fd := s.take(register(r)); fd >= 0 {
			closeFile(fd)
		}
	}
	unix.Munmap(s.mem)
	s.mem, s.m = nil, nil
}

// take returns the descriptor in r, or -1, which is the caller's from then on.
func (s *script) take(r register) int {
	fd := int(s.m.regs[r])
	s.m.regs[r] = -1
	return fd
}

// buffer returns n bytes, aligned for any integer, which the child can write to.
func (s *script) buffer(n int) []byte {
	const align = 8
	at := int(s.m.used)
	if at+n > arenaSize {
		s.err = errors.New("set-up script: out of buffers")
		return make([]byte, n)
	}
	s.m.used = uint32((at + n + align - 1) &^ (align - 1))
	return s.m.arena[at : at+n : at+n]
}

// bytes returns a buffer that holds b.
func (s *script) bytes(b []byte) []byte {
	buf := s.buffer(len(b))
	copy(buf, b)
	return buf
}

// cstring returns a buffer that holds the string and a zero byte.
func (s *script) cstring(str string) []byte { return s.bytes(append([]byte(str), 0)) }

// add appends a step that goes on with the next one, and returns its index.
func (s *script) add(what string, st step, hints ...hint) int {
	i := len(s.steps)
	if i == maxSteps {
		s.err = errors.New("set-up script: too many steps")
		return 0
	}
	st.then, st.otherwise = i+1, abort
	s.steps = append(s.steps, st)
	s.what = append(s.what, what)
	s.hints[i] = hints
	return i
}

// call appends a system call with plain arguments.
func (s *script) call(what string, call uintptr, args [4]uintptr, hints ...hint) int {
	return s.add(what, step{op: opCall, call: call, args: args, in: noReg, out: noReg}, hints...)
}

// open appends an openat(2) into the register.
func (s *script) open(what string, out register, path string, flags int, hints ...hint) int {
	cwd := unix.AT_FDCWD
	args := [4]uintptr{uintptr(cwd), address(s.cstring(path)), uintptr(flags | unix.O_CLOEXEC)}
	return s.add(what, step{op: opCall, call: unix.SYS_OPENAT, args: args, in: noReg, out: out}, hints...)
}

// ioctl appends an ioctl(2) on the descriptor in the register.
func (s *script) ioctl(what string, in register, request uint, arg uintptr, hints ...hint) int {
	return s.add(what, step{op: opCall, call: unix.SYS_IOCTL, args: [4]uintptr{0, uintptr(request), arg}, in: in, out: noReg}, hints...)
}

// write appends a write(2) of the string to the descriptor in the register.
func (s *script) write(what string, in register, str string) int {
	b := s.bytes([]byte(str))
	return s.add(what, step{op: opCall, call: unix.SYS_WRITE, args: [4]uintptr{0, address(b), uintptr(len(b))}, in: in, out: noReg})
}

// closeReg appends a close(2) of the descriptor in the register, which is empty then.
func (s *script) closeReg(r register) {
	s.add("close", step{op: opClose, in: r, out: noReg})
}

// netlink appends a socket(2) for the netlink protocol into the register.
func (s *script) netlink(what string, out register, protocol int, hints ...hint) int {
	args := [4]uintptr{unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, uintptr(protocol)}
	return s.add(what, step{op: opCall, call: unix.SYS_SOCKET, args: args, in: noReg, out: out}, hints...)
}

// request appends a netlink request, whose message must ask for an
// acknowledgement, on the socket in the register.
func (s *script) request(what string, in register, msg []byte, hints ...hint) int {
	ack := s.buffer(ackSize)
	return s.add(what, step{op: opRequest, args: [4]uintptr{0, address(msg), uintptr(len(msg)), s.offset(ack)}, in: in, out: noReg}, hints...)
}

// await appends the wait for a local route as the answer to the message, a
// RTM_GETROUTE, on the socket in the register. It may fail.
func (s *script) await(what string, in register, msg []byte) int {
	answer := s.buffer(ackSize)
	i := s.add(what, step{op: opAwait, args: [4]uintptr{0, address(msg), uintptr(len(msg)), s.offset(answer)}, in: in, out: noReg})
	s.steps[i].otherwise = s.next()
	return i
}

// patch appends the copying of the first 4 bytes of the buffer from to those of
// the buffer to.
func (s *script) patch(to, from []byte) {
	s.add("patch", step{op: opPatch, args: [4]uintptr{0, s.offset(to), s.offset(from)}, in: noReg, out: noReg})
}

// offset returns where in the arena the buffer begins.
func (s *script) offset(b []byte) uintptr { return address(b) - address(s.m.arena[:]) }

// next is the index that the next step will have.
func (s *script) next() int { return len(s.steps) }

// failed returns what made the step at i fail, nil if it did not or was not run.
func (s *script) failed(i int) error {
	errno := syscall.Errno(s.m.errno[i])
	if errno == 0 {
		return nil
	}
	for _, h := range s.hints[i] {
		if h.errno == errno {
			return fmt.Errorf("%s: %w: %s", s.what[i], errno, h.text)
		}
	}
	return fmt.Errorf("%s: %w", s.what[i], errno)
}

// run executes the script in a child and returns the error of the step that
// ended it, nil if it came to its end.
func (s *script) run() error {
	if s.err != nil {
		return s.err
	}
	err := fork(s.m, s.steps)
	switch {
	case s.m.state == stateFailed:
		return s.failed(int(s.m.at))
	case err != nil:
		return err
	case s.m.state != stateDone:
		return errors.New("the child that enters the namespace ended too early")
	}
	return nil
}

// address returns the address of a buffer of the script, which, being outside
// the Go heap, stays where it is.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
