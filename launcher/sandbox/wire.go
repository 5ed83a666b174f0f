// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A FrameKind says what a frame on the control socket is.
type FrameKind uint8

// The frames, in the order in which they travel.
const (
	FrameOrder   FrameKind = 1 + iota // to init: an Order
	FrameMapped                       // to init: its ids are mapped
	FrameGo                           // to init: the network is up
	FrameConsole                      // to the supervisor: the terminal's descriptor comes with it
	FrameSignal                       // to init: one byte, a signal for the command
	FrameFailure                      // to the supervisor: a Failure
	FrameStarted                      // to the supervisor: the command has been executed; ModeExec: its process id
	FrameUser                         // to the supervisor: an Identity (ModeRuntime)
	FrameFuse                         // to the supervisor: the connection of the root's file system comes with it
)

// frameHeaderLen is the length in bytes of a frame's header: kind and payload
// length, the latter little-endian.
const frameHeaderLen = 5

// MaxFrame bounds a frame's payload in bytes. It has room for a command line and
// an environment of what execve(2) takes from a shell in practice.
const MaxFrame = 4 << 20

// errFrameTooLong is the error of a frame above MaxFrame.
var errFrameTooLong = errors.New("control frame is too long")

// WriteFrame writes one frame to w in a single Write.
func WriteFrame(w io.Writer, kind FrameKind, payload []byte) error {
	if len(payload) > MaxFrame {
		return errFrameTooLong
	}
	b := make([]byte, frameHeaderLen, frameHeaderLen+len(payload))
	b[0] = byte(kind)
	binary.LittleEndian.PutUint32(b[1:], uint32(len(payload)))
	_, err := w.Write(append(b, payload...))
	return err
}

// ReadFrame reads one frame from r. io.EOF is the end between two frames.
func ReadFrame(r io.Reader) (FrameKind, []byte, error) {
	var h [frameHeaderLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(h[1:])
	if n > MaxFrame {
		return 0, nil, errFrameTooLong
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("read control frame: %w", io.ErrUnexpectedEOF)
	}
	return FrameKind(h[0]), payload, nil
}

// A Control is one end of the control socket, a stream socket. The zero Control is not
// usable. One goroutine may read while others write.
type Control struct {
	fd int
	// file is the supervisor's end, whose goroutines wait in the runtime's poller: one
	// that waits in a system call keeps a processor from its scheduler's rest. It is
	// nil for the stage's end, which has one thing to do.
	file *os.File
	raw  syscall.RawConn
	// passed is the descriptor that came with the bytes read last, or -1.
	passed int
}

// FD is the descriptor, which stays the control's.
func (c *Control) FD() int { return c.fd }

// NewControls makes a pair of connected controls, closed on exec.
func NewControls() (ours, theirs *Control, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the control socket: %w", err)
	}
	theirs = &Control{fd: fds[1], passed: -1}
	ours = &Control{fd: fds[0], passed: -1}
	if err = unix.SetNonblock(fds[0], true); err == nil {
		ours.file = os.NewFile(uintptr(fds[0]), "control")
		ours.raw, err = ours.file.SyscallConn()
	}
	if err != nil {
		ours.Close()
		theirs.Close()
		return nil, nil, fmt.Errorf("make the control socket: %w", err)
	}
	return ours, theirs, nil
}

// Read reads bytes, and keeps a descriptor that comes with them in passed.
func (c *Control) Read(b []byte) (int, error) {
	var oob [64]byte
	var n, oobn int
	err := c.wait(true, func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(c.fd, b, oob[:], unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read the control socket: %w", err)
	}
	if fd := rightsOf(oob[:oobn]); fd >= 0 {
		c.dropPassed()
		c.passed = fd
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all of b.
func (c *Control) Write(b []byte) (int, error) { return c.send(b, nil) }

// send writes all of b, its first byte with the control message oob.
func (c *Control) send(b, oob []byte) (int, error) {
	done := 0
	for done < len(b) {
		var n int
		err := c.wait(false, func() (err error) {
			n, err = unix.SendmsgN(c.fd, b[done:], oob, nil, unix.MSG_NOSIGNAL)
			return err
		})
		if err != nil {
			return done, fmt.Errorf("write the control socket: %w", err)
		}
		done, oob = done+n, nil
	}
	return done, nil
}

// wait calls do until it has done its work or failed; in between it waits for the
// socket to be readable, or writable.
func (c *Control) wait(read bool, do func() error) error {
	var err error
	again := func(uintptr) bool {
		for {
			if err = do(); err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	}
	if c.raw == nil {
		again(0)
		return err
	}
	poll := c.raw.Write
	if read {
		poll = c.raw.Read
	}
	if perr := poll(again); perr != nil {
		return perr
	}
	return err
}

// TakePassed hands the descriptor that came last over to the caller, or -1.
func (c *Control) TakePassed() int {
	fd := c.passed
	c.passed = -1
	return fd
}

func (c *Control) dropPassed() {
	if fd := c.TakePassed(); fd >= 0 {
		unix.Close(fd)
	}
}

// Close closes the socket, and a descriptor that nobody has taken.
func (c *Control) Close() {
	c.dropPassed()
	if c.file != nil {
		c.file.Close()
		return
	}
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// rightsOf returns the first descriptor in a control message and closes others;
// -1 where there is none.
func rightsOf(oob []byte) int {
	keep := -1
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return keep
	}
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if keep < 0 {
				keep = fd
				continue
			}
			unix.Close(fd)
		}
	}
	return keep
}
