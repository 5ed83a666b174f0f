// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A screen is a terminal as its user has it: keys and what is shown.
type screen struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	shown  bytes.Buffer
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "master")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	sfd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	slave := os.NewFile(sfd, "slave")
	t.Cleanup(func() { slave.Close() })
	s := &screen{t: t, master: master, slave: slave}
	s.size(24, 80)
	if err := master.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *screen) size(rows, columns uint16) {
	s.t.Helper()
	if err := unix.IoctlSetWinsize(int(s.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) mode() unix.Termios {
	s.t.Helper()
	m, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return *m
}

// expect reads until the screen has shown text.
func (s *screen) expect(text string) {
	buf := make([]byte, 4096)
	for !strings.Contains(s.shown.String(), text) {
		n, err := s.master.Read(buf)
		s.shown.Write(buf[:n])
		if err != nil {
			s.t.Errorf("the screen shows %q, want %q: %v", s.shown.String(), text, err)
			return
		}
	}
}

func (s *screen) typeIn(keys string) {
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Error(err)
	}
}

func TestTerminal(t *testing.T) {
	s := newScreen(t)
	old := s.mode()
	c := sh(`trap 'stty size' WINCH; trap 'echo interrupted' INT
		tty; stty size; ls -1 /dev/pts; echo ready
		while :; do read x || continue; case $x in "") ;; end) exit 6;; *) echo got:$x;; esac; done`)
	c.Stdin, c.Stdout, c.Stderr = s.slave, s.slave, s.slave
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.expect("/dev/pts/0\r\n24 80\r\n0\r\nptmx\r\nready\r\n")
		if m := s.mode(); m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
			t.Errorf("local mode %#x of the caller's terminal, want it raw", m.Lflag)
		}
		s.typeIn("one\r")
		s.expect("got:one")
		s.size(50, 132)
		if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
			t.Error(err)
		}
		s.typeIn("\r") // dash runs a trap once read returns
		s.expect("50 132")
		s.typeIn("\x03")
		s.expect("interrupted")
		s.typeIn("end\r")
	}()
	o := run(t, c)
	<-done
	if o.code != 6 || o.err != nil {
		t.Errorf("code %d, error %v, want 6", o.code, o.err)
	}
	if diff := cmp.Diff(old, s.mode()); diff != "" {
		t.Errorf("mode of the caller's terminal (-before +after):\n%s", diff)
	}
}

// TestTerminalForced asks for a terminal around streams that are none.
func TestTerminalForced(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		_, _ = w.WriteString("word\n")
		w.Close() // a terminal tells it by ^D
	}()
	c := sh("stty -echo; for i in 0 1 2; do test -t $i || exit 1; done; cat")
	c.TTY, c.Stdin = true, r
	if got := run(t, c).must(t); !strings.Contains(got, "word\r") {
		t.Errorf("output %q, want the word typed", got)
	}
}

// TestTerminalOfOneStream leaves alone what is no terminal.
func TestTerminalOfOneStream(t *testing.T) {
	s := newScreen(t)
	c := sh("test -t 0 && test -t 2 && ! test -t 1 && echo plain; readlink /proc/self/fd/0")
	c.Stdin, c.Stderr = s.slave, s.slave
	if diff := cmp.Diff("plain\n/dev/pts/0", run(t, c).must(t)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// TestTerminalIsKept has a command, whose input is none, print to the caller's terminal
// without having it open: who can write to it can read what is typed.
func TestTerminalIsKept(t *testing.T) {
	s := newScreen(t)
	c := sh("test -t 1 || test -t 2 || readlink /proc/self/fd/1 | tr -d '[0-9]'; echo error >&2; seq 1000; echo last")
	c.Stdout, c.Stderr = s.slave, s.slave
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.expect("pipe:\r\nerror\r\n1\r\n")
		s.expect("1000\r\nlast\r\n")
	}()
	if o := run(t, c); o.code != 0 || o.err != nil {
		t.Errorf("code %d, error %v", o.code, o.err)
	}
	<-done
}

// TestLastOutput checks that the end of a long output is not lost with the
// terminal.
func TestLastOutput(t *testing.T) {
	c := sh("seq 100000")
	c.TTY = true
	out := run(t, c).must(t)
	if !strings.HasSuffix(out, "\n100000\r") {
		t.Errorf("output ends with %q", out[max(0, len(out)-20):])
	}
}
