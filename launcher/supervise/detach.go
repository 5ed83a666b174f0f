// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// DetachedArg is the argv[0] under which a binary is the supervisor of a detached
// container.
const DetachedArg = "slipway-supervisor"

// readyFD is the descriptor at which a detached supervisor finds the pipe to its
// caller; those for the command follow.
const readyFD = 3

// IsDetached reports whether a process with these arguments (os.Args) is the
// supervisor of a detached container.
func IsDetached(args []string) bool { return len(args) > 2 && args[0] == DetachedArg }

// A Start is what a detached supervisor tells its caller: that the command runs, or
// why not.
type Start struct {
	ID    string `json:"id,omitempty"`
	Code  int    `json:"code,omitempty"`  // the exit code for a failure
	Error string `json:"error,omitempty"` // empty for none
}

// errSilent is the error of a supervisor that ended without a word.
var errSilent = errors.New("the supervisor ended before the container had started: was it killed?")

// Detach starts this binary as a supervisor, in a session of its own and without a
// terminal, with the words args behind its name, in the directory dir (empty is the
// caller's), and with env over the caller's environment. fds are open descriptors for the
// container's command, which stay the caller's. It returns when the command runs, or with
// what the supervisor says.
func Detach(args []string, dir string, env map[string]string, fds []int) (Start, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return Start{}, fmt.Errorf("start the supervisor: %w", err)
	}
	defer r.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		w.Close()
		return Start{}, fmt.Errorf("start the supervisor: %w", err)
	}
	defer null.Close()
	// What the caller was started with besides is not for a process that outlives it: a
	// pipe would have no end, and a lock be held.
	if err := unix.CloseRange(readyFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		w.Close()
		return Start{}, fmt.Errorf("start the supervisor: keep descriptors from it: %w", err)
	}
	files := []uintptr{null.Fd(), null.Fd(), null.Fd(), w.Fd()}
	for _, fd := range fds { // no os.File, which would change how they wait
		files = append(files, uintptr(fd))
	}
	_, _, err = syscall.StartProcess("/proc/self/exe", append([]string{DetachedArg, strconv.Itoa(len(fds))}, args...), &syscall.ProcAttr{
		Dir:   dir,
		Env:   environment(env),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return Start{}, fmt.Errorf("start the supervisor: %w", err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return Start{}, fmt.Errorf("wait for the supervisor: %w", err)
	}
	var s Start
	if json.Unmarshal(b, &s) != nil {
		return Start{}, errSilent
	}
	return s, nil
}

// environment is that of this process with more put over it.
func environment(more map[string]string) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		k, _, _ := strings.Cut(e, "=")
		_, replaced := more[k]
		return replaced
	})
	for k, v := range more {
		env = append(env, k+"="+v)
	}
	return env
}

// A Caller is who waits for a detached supervisor.
type Caller struct {
	pipe  *os.File
	files []int
}

// NewCaller returns the caller of this process, which must be one that Detach has
// started with args (os.Args without the first), and the words that were given to that.
func NewCaller(args []string) (*Caller, []string) {
	c := &Caller{pipe: os.NewFile(readyFD, "ready")}
	count, _ := strconv.Atoi(args[0]) // which Detach wrote
	for fd := readyFD; fd <= readyFD+count; fd++ {
		unix.CloseOnExec(fd)
		if fd > readyFD {
			c.files = append(c.files, fd)
		}
	}
	return c, args[1:]
}

// Files are the descriptors that Detach was given for the command; they are the process's
// to close.
func (c *Caller) Files() []int { return c.files }

// Tell tells the caller what has become of the container. Only the first call has
// an effect.
func (c *Caller) Tell(s Start) {
	if c.pipe == nil {
		return
	}
	if b, err := json.Marshal(s); err == nil {
		_, _ = c.pipe.Write(b) // a caller that is gone need not know
	}
	c.pipe.Close()
	c.pipe = nil
}
