// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A payload is the command of a container and the streams it is to have.
type payload struct {
	o       *order
	ctl     *control
	argv0   string // the executable's path
	streams [3]uintptr
	pid     atomic.Int64 // 0 before the start
}

// newPayload looks for the command and enters its working directory. It must be
// called in the container's root.
func newPayload(o *order, ctl *control) (*payload, error) {
	p := &payload{o: o, ctl: ctl, streams: [3]uintptr{0, 1, 2}}
	if err := enter(o.Spec.Process.Cwd); err != nil {
		return nil, err
	}
	var err error
	if p.argv0, err = findCommand(o.Spec.Process.Args[0], o.Spec.Process.Env); err != nil {
		return nil, err
	}
	return p, nil
}

// enter makes dir the working directory, and makes sure that it lies in the
// container (CVE-2024-21626).
func enter(dir string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
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
			if unix.Access(p, unix.X_OK) == nil {
				return p, nil
			}
			denied = true
		}
	}
	if denied {
		return "", &Failure{exitNotExecutable, fmt.Sprintf("%s: not executable", name)}
	}
	return "", &Failure{exitNotFound, fmt.Sprintf("%s: command not found in the container's PATH", name)}
}

// run starts the command, reaps whatever ends in the container, and returns the
// command's exit code.
func (p *payload) run() (int, error) {
	proc := p.o.Spec.Process
	caps := proc.Capabilities
	bounding, err := capMask(caps.Bounding)
	if err != nil {
		return 0, err
	}
	permitted, err := capMask(caps.Permitted)
	if err != nil {
		return 0, err
	}
	if proc.Terminal {
		if err := p.console(); err != nil {
			return 0, fmt.Errorf("make the container's terminal: %w", err)
		}
	}
	// A session keyring is inherited by execve: without one of its own the
	// command would have the caller's keys (keyrings(7)).
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return 0, fmt.Errorf("make a session keyring: %w", err)
	}
	if u := proc.User.Umask; u != nil {
		unix.Umask(int(*u))
	}
	if err := dropCaps(bounding, permitted); err != nil {
		return 0, err
	}
	pid, err := p.start()
	if err != nil {
		return 0, err
	}
	p.pid.Store(int64(pid))
	// If the supervisor is gone watch will tell.
	_ = writeFrame(p.ctl, frameStarted, nil)
	// From here on pid 1 has nothing to do that its children could not, but to
	// signal those that changed their user.
	if err := dropCapsEverywhere(1 << unix.CAP_KILL); err != nil {
		return 0, err
	}
	p.closeStreams()
	go watch(p.ctl, p.signal)
	return reap(pid)
}

// start executes the command in a session of its own.
func (p *payload) start() (int, error) {
	proc := p.o.Spec.Process
	attr := &syscall.ProcAttr{
		Env:   proc.Env,
		Files: p.streams[:],
		// The kernel kills what is left of a container, but not what joined it.
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: proc.Terminal, Ctty: p.ctty(), Pdeathsig: unix.SIGKILL},
	}
	pid, err := syscall.ForkExec(p.argv0, proc.Args, attr)
	if err == nil {
		return pid, nil
	}
	name := proc.Args[0]
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return 0, &Failure{exitNotFound, fmt.Sprintf("%s: not found in the container (or its interpreter is not)", name)}
	case errors.Is(err, unix.ENOEXEC):
		return 0, &Failure{exitNotExecutable, fmt.Sprintf("%s: not an executable for this machine, or a script without #!", name)}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EPERM):
		return 0, &Failure{exitNotExecutable, fmt.Sprintf("%s: not executable", name)}
	}
	return 0, &Failure{exitNotExecutable, fmt.Sprintf("execute %s: %v", name, err)}
}

// ctty is the stream that becomes the controlling terminal.
func (p *payload) ctty() int {
	for i, replaced := range p.o.Streams {
		if replaced {
			return i
		}
	}
	return 0
}

// console opens a terminal of the container's devpts, hands its master to the
// supervisor and puts its slave in place of the streams that are to have it.
func (p *payload) console() error {
	// From the root: the working directory is the command's already.
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the root: %w", err)
	}
	defer unix.Close(root)
	master, err := place{root, "/dev/pts/ptmx"}.open(unix.O_RDWR | unix.O_NOCTTY)
	if err != nil {
		return fmt.Errorf("open /dev/pts/ptmx: %w", err)
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock it: %w", err)
	}
	if s := p.o.Spec.Process.ConsoleSize; s != nil {
		ws := unix.Winsize{Row: uint16(s.Height), Col: uint16(s.Width)}
		if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &ws); err != nil {
			return fmt.Errorf("set its size: %w", err)
		}
	}
	// The slave of this master and no other, whatever /dev/pts has become
	// (CVE-2025-52565).
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fmt.Errorf("open its other end: %w", errno)
	}
	for i, replaced := range p.o.Streams {
		if replaced {
			p.streams[i] = slave
		}
	}
	h := [frameHeaderLen]byte{byte(frameConsole)}
	_, err = p.ctl.send(h[:], unix.UnixRights(master))
	return err
}

// closeStreams lets go of the streams, so that the command's end of a pipe is the
// only one.
func (p *payload) closeStreams() {
	for _, fd := range p.streams {
		unix.Close(int(fd))
	}
	for fd := range 3 {
		unix.Close(fd) // some were closed above already
	}
}

// signal sends sig to the command.
func (p *payload) signal(sig unix.Signal) {
	if pid := int(p.pid.Load()); pid > 0 {
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
			return exitSignal + int(ws.Signal()), nil
		}
	}
}
