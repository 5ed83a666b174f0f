// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// endOfFile is what ends the input of a terminal in canonical mode (VEOF,
// termios(3)).
const endOfFile = 0x04

// modeEvery is how often the mode of a terminal is looked at whose input has ended: nothing
// tells of a change.
const modeEvery = 100 * time.Millisecond

// copyBuf is the size in bytes of the buffer between two terminals.
const copyBuf = 32 << 10

// A terminal joins the caller's streams to the master of the container's
// terminal. Its methods are for one goroutine.
type terminal struct {
	master *os.File
	in     *os.File // where to read, nil for nothing
	out    *os.File // where to write
	tty    *os.File // the caller's terminal, nil if there is none
	saved  *unix.Termios
	wake   [2]int // a pipe; closing the second end stops the reading of in
	done   sync.WaitGroup
}

// isTerminal reports whether f is a terminal.
func isTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	_, err := termios(f)
	return err == nil
}

// windowSize returns the rows and columns of the terminal f.
func windowSize(f *os.File) (rows, columns uint16) {
	_ = withFD(f, func(fd int) error {
		ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			rows, columns = ws.Row, ws.Col
		}
		return err
	})
	return rows, columns
}

// newTerminal takes the master fd over, makes the caller's terminal raw if there
// is one, and starts the copying. Stop must be called.
func newTerminal(fd int, c Config, streams [3]bool) (*terminal, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.DEVPTS_SUPER_MAGIC {
		unix.Close(fd)
		return nil, errors.New("the container's terminal is not one of a devpts")
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that Close ends a Read
		unix.Close(fd)
		return nil, fmt.Errorf("set up the container's terminal: %w", err)
	}
	t := &terminal{master: os.NewFile(uintptr(fd), "ptmx"), wake: [2]int{-1, -1}}
	for _, f := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
		if t.tty == nil && isTerminal(f) {
			t.tty = f
		}
	}
	if streams[0] {
		t.in = c.Stdin
	}
	switch {
	case streams[1]:
		t.out = c.Stdout
	case streams[2]:
		t.out = c.Stderr
	default:
		t.out = t.tty // echo of what is typed
	}
	if isTerminal(c.Stdin) && streams[0] {
		if err := t.raw(); err != nil {
			t.master.Close()
			return nil, err
		}
	}
	if err := unix.Pipe2(t.wake[:], unix.O_CLOEXEC); err != nil {
		t.restore()
		t.master.Close()
		return nil, fmt.Errorf("set up the container's terminal: %w", err)
	}
	t.resize()
	t.done.Go(t.copyOut)
	t.done.Go(t.copyIn)
	return t, nil
}

// resize gives the container's terminal the size of the caller's.
func (t *terminal) resize() {
	if t.tty == nil {
		return
	}
	t.setSize(windowSize(t.tty))
}

// setSize gives the container's terminal a size.
func (t *terminal) setSize(rows, columns uint16) {
	_ = withFD(t.master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	})
}

// stop ends the copying after the command's last output has been passed on, and gives
// the caller's terminal its old mode. The command must have ended; other processes may
// have its terminal, and are not waited for.
func (t *terminal) stop() {
	unix.Close(t.wake[1])
	_ = t.master.SetReadDeadline(time.Unix(1, 0)) // fails if it is closed already
	t.done.Wait()
	unix.Close(t.wake[0])
	t.master.Close()
	t.restore()
}

// copyOut passes on what the container writes until stop, or until no process has its
// terminal open, which a read tells by EIO.
func (t *terminal) copyOut() {
	var w io.Writer = io.Discard
	if t.out != nil {
		w = t.out
	}
	_, err := io.Copy(writerOnly{w}, t.master)
	switch {
	case errors.Is(err, unix.EIO):
	case errors.Is(err, os.ErrDeadlineExceeded):
		passRest(w, t.master)
	case err != nil:
		// The caller's end is gone: read on, so that the container does not stall.
		_, _ = io.Copy(io.Discard, t.master)
	}
	_ = t.master.Close() // a write to it must not wait
}

// copyIn passes on what the caller types until stop.
func (t *terminal) copyIn() {
	if t.in == nil {
		return
	}
	buf := make([]byte, copyBuf)
	for {
		n, err := t.readIn(buf)
		if n > 0 {
			if _, err := t.master.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				t.endInput()
			}
			return
		}
	}
}

// endInput tells the command that there is no more input, until stop. The terminal
// understands the byte for that in canonical mode alone, and forgets it when the mode
// changes, as shells have it do for each line that they edit; in the other mode those take
// it themselves.
func (t *terminal) endInput() {
	told, canonical := false, false
	for {
		m, err := termios(t.master)
		if err != nil {
			return
		}
		if now := m.Lflag&unix.ICANON != 0; !told || now != canonical {
			if _, err := t.master.Write([]byte{endOfFile}); err != nil {
				return
			}
			told, canonical = true, now
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(t.wake[0])}}, int(modeEvery.Milliseconds()))
		if n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}

// errStopped is what readIn returns after stop.
var errStopped = errors.New("terminal stopped")

// readIn reads from the caller's input, which may be any kind of file, without
// being held up by it once stop is called.
func (t *terminal) readIn(buf []byte) (n int, err error) {
	cerr := withFD(t.in, func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(t.wake[0])}}
		for {
			if _, err = unix.Poll(p, -1); err == unix.EINTR {
				continue
			}
			if err != nil {
				return nil
			}
			if p[1].Revents != 0 {
				err = errStopped
				return nil
			}
			n, err = unix.Read(fd, buf)
			if err == unix.EINTR || err == unix.EAGAIN {
				continue
			}
			if n == 0 && err == nil {
				err = io.EOF
			}
			return nil
		}
	})
	if cerr != nil {
		return 0, cerr
	}
	return max(n, 0), err
}

// raw makes the caller's terminal pass every byte on as it is (cfmakeraw(3)).
func (t *terminal) raw() error {
	old, err := termios(t.tty)
	if err != nil {
		return fmt.Errorf("read the mode of the terminal: %w", err)
	}
	m := *old
	m.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	m.Oflag &^= unix.OPOST
	m.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	m.Cflag = m.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	m.Cc[unix.VMIN], m.Cc[unix.VTIME] = 1, 0
	if err := setTermios(t.tty, &m); err != nil {
		return fmt.Errorf("set the terminal to raw mode: %w", err)
	}
	t.saved = old
	return nil
}

func (t *terminal) restore() {
	if t.saved != nil {
		_ = setTermios(t.tty, t.saved) // a terminal that is gone needs no mode
		t.saved = nil
	}
}

// writerOnly hides the other methods of a Writer, so that io.Copy keeps to it.
type writerOnly struct{ io.Writer }

func termios(f *os.File) (m *unix.Termios, err error) {
	cerr := withFD(f, func(fd int) error {
		m, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	})
	return m, cerr
}

func setTermios(f *os.File, m *unix.Termios) error {
	return withFD(f, func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, m) })
}

// withFD calls do with the descriptor of f, which stays open meanwhile and in
// the mode it is in, unlike with f.Fd.
func withFD(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var derr error
	if err := raw.Control(func(fd uintptr) { derr = do(int(fd)) }); err != nil {
		return err
	}
	return derr
}
