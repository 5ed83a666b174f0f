// SPDX-License-Identifier: Apache-2.0

package rawfork_test

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap/rawfork"
)

//go:nosplit
//go:norace
//go:nocheckptr
func execute(arg unsafe.Pointer) { (*rawfork.Program)(arg).Execute() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start has a child execute c's program, and returns what it writes to its standard output
// and how it ended. While it lives, during is called.
func start(t *testing.T, c rawfork.ProgramConfig, flags uintptr, during func()) (*rawfork.Program, string, unix.WaitStatus) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	c.Files[1] = int(w.Fd())
	p, err := rawfork.NewProgram(c)
	must(t, err)
	t.Cleanup(p.Close)
	pid, errno := rawfork.Clone(flags, execute, unsafe.Pointer(p))
	runtime.KeepAlive(p)
	w.Close()
	if errno != 0 {
		t.Fatal(errno)
	}
	during()
	b, err := io.ReadAll(r)
	must(t, err)
	ws, err := rawfork.Wait(pid)
	must(t, err)
	return p, string(b), ws
}

func null(t *testing.T) int {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// TestProgramFiles gives a program descriptors that lie where others are to be.
func TestProgramFiles(t *testing.T) {
	const low, high = rawfork.MaxFiles - 2, rawfork.MaxFiles - 1
	content := map[int]string{low: "low", high: "high"}
	for fd, s := range content {
		r, w, err := os.Pipe()
		must(t, err)
		_, err = w.WriteString(s)
		must(t, errors.Join(err, w.Close(), unix.Dup3(int(r.Fd()), fd, unix.O_CLOEXEC), r.Close()))
		defer unix.Close(fd)
	}
	c := rawfork.ProgramConfig{Path: "/bin/sh", Args: []string{"sh", "-c", "cat /proc/self/fd/70; echo; cat /proc/self/fd/71; echo; test -e /proc/self/fd/72 && echo more; echo $A; exit 7"}, Env: []string{"A=b"}}
	for range rawfork.MaxFiles {
		c.Files = append(c.Files, null(t))
	}
	c.Files = c.Files[:rawfork.MaxFiles:rawfork.MaxFiles]
	c.Files[low], c.Files[high] = high, low
	if _, got, ws := start(t, c, unix.CLONE_VFORK, func() {}); got != "high\nlow\nb\n" || ws.ExitStatus() != 7 {
		t.Errorf("it wrote %q, and ended with %#x", got, ws)
	}
}

// TestProgramGate holds a program back until it is let through, or never.
func TestProgramGate(t *testing.T) {
	for _, open := range []bool{true, false} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		n := null(t)
		c := rawfork.ProgramConfig{Path: "/bin/echo", Args: []string{"echo", "through"}, Files: []int{n, 0, n}, Gate: pair[1]}
		_, got, ws := start(t, c, 0, func() {
			if open {
				_, err := unix.Write(pair[0], []byte{0})
				must(t, err)
			}
			must(t, unix.Shutdown(pair[0], unix.SHUT_WR)) // of the end itself: the child has a copy
		})
		must(t, errors.Join(unix.Close(pair[0]), unix.Close(pair[1])))
		if want := map[bool]string{true: "through\n"}[open]; got != want || (ws.ExitStatus() == 0) != open {
			t.Errorf("open %t: it wrote %q, and ended with %#x", open, got, ws)
		}
	}
}

// TestProgramFails tells what failed.
func TestProgramFails(t *testing.T) {
	n := null(t)
	for _, tt := range []struct {
		name string
		cfg  rawfork.ProgramConfig
		step int32
		want error
	}{
		{"no such program", rawfork.ProgramConfig{Path: "/no/such", Files: []int{n, 0}}, rawfork.StepExecute, unix.ENOENT},
		{"no program", rawfork.ProgramConfig{Exe: n, Files: []int{n, 0}}, rawfork.StepExecute, unix.EACCES},
		{"no such file", rawfork.ProgramConfig{Path: "/bin/true", Files: []int{n, 0, 1 << 20}}, rawfork.StepFiles, unix.EBADF},
		{"no terminal", rawfork.ProgramConfig{Path: "/bin/true", Files: []int{n, 0}, Terminal: n}, rawfork.StepTerminal, unix.ENOTTY},
		{"no gate", rawfork.ProgramConfig{Path: "/bin/true", Files: []int{n, 0}, Gate: 1 << 20}, rawfork.StepGate, unix.EPIPE},
		{"no filter", rawfork.ProgramConfig{Path: "/bin/true", Files: []int{n, 0}, Filter: &unix.SockFprog{}}, rawfork.StepFilter, unix.EINVAL},
	} {
		tt.cfg.Args = []string{"x"}
		p, _, ws := start(t, tt.cfg, unix.CLONE_VFORK, func() {})
		if err := p.Failure(); p.Told.Step != tt.step || syscall.Errno(p.Told.Errno) != tt.want || !errors.Is(err, tt.want) || ws.ExitStatus() != 1 {
			t.Errorf("%s: step %#x, %v, end %#x; want step %#x, %v", tt.name, p.Told.Step, err, ws, tt.step, tt.want)
		}
	}
	for _, c := range []rawfork.ProgramConfig{
		{Files: make([]int, rawfork.MaxFiles+1)}, {Args: []string{"a\x00b"}}, {Env: []string{"a\x00b"}}, {Path: "a\x00b"},
	} {
		if _, err := rawfork.NewProgram(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
