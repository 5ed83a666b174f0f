// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A payload is the command of a container and the streams it is to have.
type payload struct {
	p     *Process
	ctl   *Control
	id    identity
	argv0 string       // the executable's path
	slave int          // the container's terminal, -1 for none
	pid   atomic.Int64 // 0 before the start
	// starter is the thread that started the command, if that is a child.
	starter int
}

// newPayload looks for the command and who it is to be run as, and enters its working
// directory. It must be called in the container's root.
func newPayload(p *Process, ctl *Control) (*payload, error) {
	pl := &payload{p: p, ctl: ctl, slave: -1}
	var err error
	if pl.id, err = lookUp(p); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		p.Env = append(p.Env, "HOME="+pl.id.home)
	}
	if err := enter(p.Cwd); err != nil {
		return nil, err
	}
	if pl.argv0, err = findCommand(p.Args[0], p.Env); err != nil {
		return nil, err
	}
	return pl, nil
}

// enter makes dir the working directory, and makes sure that it lies in the
// container (CVE-2024-21626).
func enter(dir string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: insideLinks}
	fd, err := unix.Openat2(unix.AT_FDCWD, dir, &how)
	if err != nil {
		return fmt.Errorf("enter working directory %q: %w", dir, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchdir(fd); err != nil {
		return fmt.Errorf("enter working directory %q: %w", dir, err)
	}
	// The kernel returns "(unreachable)…" for a directory outside of the root.
	if cwd, err := unix.Getwd(); err != nil || !strings.HasPrefix(cwd, "/") {
		return fmt.Errorf("enter working directory %q: it is not in the container", dir)
	}
	return nil
}

// findCommand looks for name in the PATH of env as execvp(3) does.
func findCommand(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	denied := false
	for _, e := range env {
		list, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(list, ":") {
			p := path.Join("/", dir, name)
			var st unix.Stat_t
			if err := unix.Stat(p, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
				continue
			}
			if st.Mode&executable != 0 {
				return p, nil
			}
			denied = true
		}
	}
	if denied {
		return "", &Failure{ExitNotExecutable, fmt.Sprintf("%s: not executable", name)}
	}
	return "", &Failure{ExitNotFound, fmt.Sprintf("%s: command not found in the container's PATH", name)}
}

// executable are the mode bits of which a program has one.
const executable = 0o111

// run executes the command, as pid 1 in place of this stage or as a child of it. It
// returns the command's exit code in the latter case.
func (pl *payload) run() (int, error) {
	if pl.p.Terminal {
		if err := pl.console(); err != nil {
			return 0, fmt.Errorf("make the container's terminal: %w", err)
		}
	}
	if !pl.p.Init {
		return 0, pl.replace()
	}
	c, err := pl.startConfined()
	if err != nil {
		return 0, err
	}
	pl.pid.Store(int64(c.pid))
	if err := pl.stepDown(); err != nil {
		return 0, err
	}
	if err := c.release(); err != nil {
		return 0, err
	}
	// If the supervisor is gone watch will tell.
	_ = WriteFrame(pl.ctl, FrameStarted, nil)
	for _, fd := range append([]uintptr{0, 1, 2}, pl.p.files()...) {
		unix.Close(int(fd)) // so that the command's end of a pipe is the only one
	}
	if pl.slave >= 0 {
		unix.Close(pl.slave)
	}
	go watch(pl.ctl, pl.signal)
	return reap(c.pid)
}

// stepDown gives up, on every thread, the rights of pid 1 that its children could not have
// either, but that to signal those that changed their user. A command of another user
// than root is signalled as that user. The command's filter is pid 1's, too: who has
// CAP_SYS_PTRACE in the container can make a thread of it do what the command may not. So
// nothing is executed in the container before.
func (pl *payload) stepDown() error {
	if err := pl.dropRights(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs of pid 1: %w", err)
	}
	// The thread that started the command is about to end. While it is there, its own
	// filter keeps all from having one in common.
	for unix.Tgkill(unix.Getpid(), pl.starter, 0) == nil {
		runtime.Gosched()
	}
	return filter(pl.p.Seccomp, unix.SECCOMP_FILTER_FLAG_TSYNC)
}

func (pl *payload) dropRights() error {
	if pl.id.uid != 0 {
		if err := becomeEverywhere(pl.id.uid); err != nil {
			return err
		}
		return dropCapsEverywhere(0)
	}
	permitted, _ := granted(pl.p, pl.id)
	return dropCapsEverywhere(permitted & (1 << unix.CAP_KILL))
}

// replace executes the command in place of this stage. It returns only on failure;
// the control socket is closed by success, which is how the supervisor knows.
func (pl *payload) replace() error {
	if pl.slave >= 0 {
		// Pid 1 leads a session since its start.
		if err := unix.IoctlSetInt(pl.slave, unix.TIOCSCTTY, 0); err != nil {
			return fmt.Errorf("make the container's terminal: take it: %w", err)
		}
		for fd, replaced := range pl.p.Streams {
			if !replaced {
				continue
			}
			if err := unix.Dup3(pl.slave, fd, 0); err != nil {
				return fmt.Errorf("make the container's terminal: %w", err)
			}
		}
	}
	if err := placeFiles(pl.p, pl.ctl); err != nil {
		return err
	}
	if err := setLimits(pl.p.Rlimits); err != nil {
		return err
	}
	if err := confine(pl.p, pl.id); err != nil {
		return err
	}
	return execError(pl.p.Args[0], syscall.Exec(pl.argv0, pl.p.Args, pl.p.Env))
}

// execError says which exit code a command has that cannot be executed.
func execError(name string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return &Failure{ExitNotFound, fmt.Sprintf("%s: not found in the container (or its interpreter is not)", name)}
	case errors.Is(err, unix.ENOEXEC):
		return &Failure{ExitNotExecutable, fmt.Sprintf("%s: not an executable for this machine, or a script without #!", name)}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EPERM):
		return &Failure{ExitNotExecutable, fmt.Sprintf("%s: not executable", name)}
	}
	return &Failure{ExitNotExecutable, fmt.Sprintf("execute %s: %v", name, err)}
}

// signal sends sig to the command.
func (pl *payload) signal(sig unix.Signal) {
	if pid := int(pl.pid.Load()); pid > 0 {
		_ = unix.Kill(pid, sig) // it may just have ended
	}
}

// reap waits for every child until the command pid has ended, and returns its
// exit code. The kernel kills what is left when pid 1 exits.
func reap(pid int) (int, error) {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for the command: %w", err)
		}
		switch {
		case got != pid:
		case ws.Exited():
			return ws.ExitStatus(), nil
		case ws.Signaled():
			return ExitSignal + int(ws.Signal()), nil
		}
	}
}
