// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/join"
	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/userns/inside"
)

// ErrGone is found by errors.Is in the error of Exec.Run if the container had ended.
var ErrGone = join.ErrGone

// An Exec is one more command for a container that runs. Order and Pidfd are needed,
// and Args.
type Exec struct {
	// Order is what Container.Order returned in the container's supervisor.
	Order []byte
	// PID and Pidfd are the container's first process; the latter stays the caller's
	// to close.
	PID, Pidfd int
	// Args and Env are as in Config; Env is added to the container's.
	Args, Env []string
	// Workdir is the directory the command starts in, and User who it is run as;
	// empty is as the container's own command has it.
	Workdir, User string
	// TTY and the streams are as in Config.
	TTY                   bool
	Stdin, Stdout, Stderr *os.File
	Files                 []int // as in Config

	mode string // of the init stage; empty is sandbox.ModeExec
}

// Order returns what the container's init stage was told, which Exec needs to give
// another command the same rights. It is empty before Config.Started is called.
func (ct *Container) Order() []byte { return ct.order }

// Run runs the command with the rights of the container's own: capabilities,
// no_new_privs, seccomp filter, limits. What it returns is as with Container.Run. The
// command is killed when this process ends.
func (e Exec) Run(ctx context.Context) (int, error) {
	ct, namespaces, err := e.container()
	if err != nil {
		return sandbox.ExitOurs, err
	}
	defer ct.closeFiles()
	r, err := ct.launch(func(r *running, theirs *sandbox.Control) error { return e.join(r, theirs, namespaces) })
	if err == nil && e.mode == "" {
		r.commands = make(chan process, 1)
	}
	if err == nil {
		err = r.follow(ct)
	}
	if err != nil {
		return sandbox.ExitOurs, err
	}
	defer r.close()
	sigs := newSignals()
	sigs.pass()
	defer sigs.stop()
	return r.wait(ctx, sigs)
}

// container is the Container that a running looks after: of the one that is joined,
// what the command has of it. It returns the namespaces to join, too: all but that of
// process ids, in which the stage must not be (sandbox.ModeExec).
func (e Exec) container() (*Container, uintptr, error) {
	no := false
	cfg := Config{Args: e.Args, Env: e.Env, Workdir: e.Workdir, TTY: e.TTY, Net: NetNone, Init: &no, Stdin: e.Stdin, Stdout: e.Stdout, Stderr: e.Stderr, Files: e.Files}
	if err := cfg.check(); err != nil {
		return nil, 0, err
	}
	ct := &Container{cfg: cfg, asked: make(chan func(*running)), ended: make(chan struct{})}
	pty := e.TTY || isTerminal(e.Stdin)
	for i, f := range []*os.File{e.Stdin, e.Stdout, e.Stderr} {
		ct.plan.streams[i] = e.TTY || pty && isTerminal(f)
	}
	o, err := sandbox.Decode(e.Order)
	if err != nil {
		return nil, 0, err
	}
	p := &o.Process
	p.Args, p.Env = e.Args, mergeEnv(p.Env, e.Env)
	if e.Workdir != "" {
		p.Cwd = e.Workdir
	}
	if e.User != "" {
		p.User, p.Groups = e.User, nil
	}
	p.Files = uint32(len(e.Files))
	p.Init, p.Streams, p.Terminal, p.Rows, p.Columns = false, ct.plan.streams, pty, 0, 0
	if pty {
		p.Env = mergeEnv([]string{"TERM=xterm"}, p.Env)
	}
	if isTerminal(e.Stdin) {
		rows, columns := windowSize(e.Stdin)
		p.Rows, p.Columns = uint32(rows), uint32(columns)
	}
	if ct.order = (&sandbox.Order{Process: *p}).Encode(); len(ct.order) > sandbox.MaxFrame {
		return nil, 0, fmt.Errorf("%w: command and environment are longer than %d bytes", ErrUsage, sandbox.MaxFrame)
	}
	namespaces := uintptr(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP)
	if otherNetwork(e.PID) {
		namespaces |= unix.CLONE_NEWNET
	}
	return ct, namespaces, nil
}

// join starts the init stage in the container, with the streams and the control.
func (e Exec) join(r *running, ctl *sandbox.Control, namespaces uintptr) error {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the null device: %w", err)
	}
	defer unix.Close(null)
	open := openStage
	if e.mode == sandbox.ModeCopy { // the small binary knows no archives
		open = openSelf
	}
	exe, err := open()
	if err != nil {
		return err
	}
	if exe, err = sealed(exe); err != nil {
		return err
	}
	defer exe.Close()
	streams, err := r.streamFDs(null)
	if err != nil {
		return err
	}
	fds := slices.Concat(streams[:], []int{ctl.FD()}, e.Files)
	if e.mode == "" { // whose command is to be in the container's pid namespace
		fds = append(fds, e.Pidfd)
	}
	r.pid, err = join.Start(join.Config{
		Join: []join.Namespaces{{FD: e.Pidfd, Flags: namespaces}}, Exe: int(exe.Fd()),
		Args: []string{sandbox.InitArg, cmp.Or(e.mode, sandbox.ModeExec)}, Env: inside.Environ(), Files: fds,
	})
	if err != nil {
		return err
	}
	// Our child's id is not given to another before we have waited for it. It waits
	// for its order until it has joined the group.
	if r.pidfd, err = unix.PidfdOpen(r.pid, 0); err != nil {
		err = fmt.Errorf("open the process in the container: %w", err)
	} else if err = joinGroup(e.PID, r.pid); err != nil {
		unix.Close(r.pidfd)
	}
	if err != nil {
		_ = unix.Kill(r.pid, unix.SIGKILL)
		_, _ = join.Wait(r.pid)
	}
	return err
}

// otherNetwork reports whether a process has another network namespace than this one,
// as every container but those of NetHost has.
func otherNetwork(pid int) bool {
	var own, its unix.Stat_t
	err := errors.Join(unix.Stat("/proc/self/ns/net", &own), unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &its))
	return err == nil && own.Ino != its.Ino
}

// mergeEnv is env with the words of more put over it.
func mergeEnv(env, more []string) []string {
	at := make(map[string]int, len(env)+len(more))
	var out []string
	for _, e := range append(append([]string{}, env...), more...) {
		k, _, _ := strings.Cut(e, "=")
		if i, ok := at[k]; ok {
			out[i] = e
			continue
		}
		at[k] = len(out)
		out = append(out, e)
	}
	return out
}
