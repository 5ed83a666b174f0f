// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A frameKind says what a frame on the control socket is.
type frameKind uint8

// The frames, in the order in which they travel.
const (
	frameBundle  frameKind = 1 + iota // to init: JSON of a bundle
	frameGo                           // to init: the network is up
	frameConsole                      // to the supervisor: the terminal's descriptor comes with it
	frameSignal                       // to init: one byte, a signal for the command
	frameFailure                      // to the supervisor: JSON of a Failure
	frameStarted                      // to the supervisor: the command has been executed
)

// frameHeaderLen is the length in bytes of a frame's header: kind and payload
// length, the latter little-endian.
const frameHeaderLen = 5

// maxFrame bounds a frame's payload in bytes. It has room for a command line and
// an environment of what execve(2) takes from a shell in practice.
const maxFrame = 4 << 20

// errFrameTooLong is the error of a frame above maxFrame.
var errFrameTooLong = errors.New("control frame is too long")

// A bundle is all that the init stage is told: the spec, and what a runtime-spec
// has no word for.
type bundle struct {
	Spec    *specs.Spec
	Files   []file
	Streams [3]bool // which of the standard streams the container's terminal replaces
	// Legacy makes the init stage use mount(2) alone, as on a kernel (or under a
	// seccomp filter) without fsopen(2).
	Legacy bool
}

// An order is what the init stage reads of a bundle: of the spec those fields that
// it obeys. Decoding into specs.Spec takes a millisecond more, as encoding/json
// then looks at the types of every platform there is.
type order struct {
	Spec struct {
		Hostname string         `json:"hostname"`
		Mounts   []specs.Mount  `json:"mounts"`
		Process  orderedProcess `json:"process"`
		Linux    struct {
			Namespaces    []specs.LinuxNamespace `json:"namespaces"`
			Devices       []specs.LinuxDevice    `json:"devices"`
			Sysctl        map[string]string      `json:"sysctl"`
			MaskedPaths   []string               `json:"maskedPaths"`
			ReadonlyPaths []string               `json:"readonlyPaths"`
		} `json:"linux"`
	}
	Files   []file
	Streams [3]bool
	Legacy  bool
}

// An orderedProcess is what an order has of specs.Process. User, the
// supplementary groups and the mappings are not among it: the container has the
// one id that was mapped at its start.
type orderedProcess struct {
	Terminal     bool                    `json:"terminal"`
	ConsoleSize  *specs.Box              `json:"consoleSize"`
	User         struct{ Umask *uint32 } `json:"user"`
	Args         []string                `json:"args"`
	Env          []string                `json:"env"`
	Cwd          string                  `json:"cwd"`
	Capabilities specs.LinuxCapabilities `json:"capabilities"`
}

// writeFrame writes one frame to w in a single Write.
func writeFrame(w io.Writer, kind frameKind, payload []byte) error {
	if len(payload) > maxFrame {
		return errFrameTooLong
	}
	b := make([]byte, frameHeaderLen, frameHeaderLen+len(payload))
	b[0] = byte(kind)
	binary.LittleEndian.PutUint32(b[1:], uint32(len(payload)))
	_, err := w.Write(append(b, payload...))
	return err
}

// readFrame reads one frame from r. io.EOF is the end between two frames.
func readFrame(r io.Reader) (frameKind, []byte, error) {
	var h [frameHeaderLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(h[1:])
	if n > maxFrame {
		return 0, nil, errFrameTooLong
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("read control frame: %w", io.ErrUnexpectedEOF)
	}
	return frameKind(h[0]), payload, nil
}

// decodeOrder reads the JSON of a bundle.
func decodeOrder(b []byte) (*order, error) {
	var o order
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, fmt.Errorf("decode the spec: %w", err)
	}
	if len(o.Spec.Process.Args) == 0 {
		return nil, errors.New("decode the spec: it has no command")
	}
	return &o, nil
}

// A control is one end of the control socket, a blocking stream socket. The zero
// control is not usable.
type control struct {
	fd int
	// passed is the descriptor that came with the bytes read last, or -1.
	passed int
}

// newControls makes a pair of connected controls, closed on exec.
func newControls() (ours, theirs *control, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the control socket: %w", err)
	}
	return &control{fd: fds[0], passed: -1}, &control{fd: fds[1], passed: -1}, nil
}

// Read reads bytes, and keeps a descriptor that comes with them in passed.
func (c *control) Read(b []byte) (int, error) {
	var oob [64]byte
	for {
		n, oobn, _, _, err := unix.Recvmsg(c.fd, b, oob[:], unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
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
}

// Write writes all of b.
func (c *control) Write(b []byte) (int, error) { return c.send(b, nil) }

// send writes all of b, its first byte with the control message oob.
func (c *control) send(b, oob []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.SendmsgN(c.fd, b[done:], oob, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, fmt.Errorf("write the control socket: %w", err)
		}
		done, oob = done+n, nil
	}
	return done, nil
}

// takePassed hands the descriptor that came last over to the caller, or -1.
func (c *control) takePassed() int {
	fd := c.passed
	c.passed = -1
	return fd
}

func (c *control) dropPassed() {
	if fd := c.takePassed(); fd >= 0 {
		unix.Close(fd)
	}
}

// take hands the socket itself over to the caller.
func (c *control) take() int {
	fd := c.fd
	c.fd = -1
	return fd
}

func (c *control) close() {
	c.dropPassed()
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
