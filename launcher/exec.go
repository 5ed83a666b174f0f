// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/slipway-net/slipway/launcher/join"
	"golang.org/x/sys/unix"
)

// ErrGone is found by errors.Is in the error of Exec.Run if the container had ended.
var ErrGone = join.ErrGone

// An Exec is one more command for a container that runs. Order and Pidfd are needed,
// and Args.
type Exec struct {
	// Order is what Container.Order returned in the container's supervisor.
	Order []byte
	// Pidfd is the container's first process; it stays the caller's to close.
	Pidfd int
	// Args and Env are as in Config; Env is added to the container's.
	Args, Env []string
	// Workdir is the directory the command starts in; empty is the container's.
	Workdir string
	// TTY and the streams are as in Config.
	TTY                   bool
	Stdin, Stdout, Stderr *os.File
}

// Order returns what the container's init stage was told, which Exec needs to give
// another command the same rights. It is empty before Config.Started is called.
func (ct *Container) Order() []byte { return ct.order }

// Run runs the command with the rights of the container's own: capabilities,
// no_new_privs, limits. What it returns is as with Container.Run. The command is
// killed when this process ends.
func (e Exec) Run(ctx context.Context) (int, error) {
	runtime.LockOSThread() // see join.Start
	defer runtime.UnlockOSThread()
	ct, err := e.container()
	if err != nil {
		return exitOurs, err
	}
	r, err := e.start(ct)
	if err != nil {
		return exitOurs, err
	}
	defer r.close()
	sigs := newSignals()
	defer sigs.stop()
	return r.wait(ctx, sigs)
}

// container is the Container that r looks after: of the one that is joined, what
// the command has of it.
func (e Exec) container() (*Container, error) {
	cfg := Config{Args: e.Args, Env: e.Env, Workdir: e.Workdir, TTY: e.TTY, Net: NetNone, Stdin: e.Stdin, Stdout: e.Stdout, Stderr: e.Stderr}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	pty := e.TTY || isTerminal(e.Stdin)
	ct := &Container{cfg: cfg, asked: make(chan func(*running)), ended: make(chan struct{})}
	for i, f := range []*os.File{e.Stdin, e.Stdout, e.Stderr} {
		ct.bundle.Streams[i] = e.TTY || pty && isTerminal(f)
	}
	o, err := decodeOrder(e.Order)
	if err != nil {
		return nil, err
	}
	p := &o.Spec.Process
	p.Args, p.Env = e.Args, mergeEnv(p.Env, e.Env)
	if e.Workdir != "" {
		p.Cwd = e.Workdir
	}
	if p.Terminal = pty; pty {
		p.Env = mergeEnv([]string{"TERM=xterm"}, p.Env)
	}
	p.ConsoleSize = nil
	if rows, columns := windowSize(e.Stdin); isTerminal(e.Stdin) && rows > 0 && columns > 0 {
		p.ConsoleSize = &specs.Box{Height: uint(rows), Width: uint(columns)}
	}
	o.Streams, o.Files, o.Spec.Mounts = ct.bundle.Streams, nil, nil
	if ct.order, err = json.Marshal(o); err != nil {
		return nil, fmt.Errorf("encode the order: %w", err)
	}
	if len(ct.order) > maxFrame {
		return nil, fmt.Errorf("%w: command and environment are longer than %d bytes", ErrUsage, maxFrame)
	}
	return ct, nil
}

// start starts the init stage in the container.
func (e Exec) start(ct *Container) (*running, error) {
	o, err := decodeOrder(e.Order)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := newControls()
	if err != nil {
		return nil, err
	}
	defer theirs.close()
	pid, err := e.join(ct, theirs, namespaceFlags(o))
	if err != nil {
		ours.close()
		return nil, err
	}
	r := newRunning(ct, ours, child{
		pid:  pid,
		kill: func() error { return unix.Kill(pid, unix.SIGKILL) },
		wait: func() (unix.WaitStatus, error) { return join.Wait(pid) },
	})
	// If the init stage ended early its failure is what receive gets.
	_ = writeFrame(ours, frameBundle, ct.order)
	return r, nil
}

// join starts the init stage with the streams and the control socket.
func (e Exec) join(ct *Container, ctl *control, namespaces uintptr) (int, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("open the null device: %w", err)
	}
	defer null.Close()
	exe, err := os.OpenFile(selfExe, unix.O_PATH, 0)
	if err != nil {
		return 0, fmt.Errorf("open our own binary: %w", err)
	}
	defer exe.Close()
	socket := os.NewFile(uintptr(ctl.take()), "control")
	defer socket.Close()
	files := []*os.File{e.Stdin, e.Stdout, e.Stderr, socket}
	for i := range files {
		if files[i] == nil || i < len(ct.bundle.Streams) && ct.bundle.Streams[i] {
			files[i] = null
		}
	}
	return join.Start(join.Config{
		Pidfd: e.Pidfd, Namespaces: namespaces, Exe: exe,
		Args: []string{InitArg, initExec}, Env: initEnv(), Files: files,
	})
}

// namespaceFlags are the namespaces that a container has of its own, as CLONE_NEW*.
func namespaceFlags(o *order) uintptr {
	var flags uintptr
	for _, n := range o.Spec.Linux.Namespaces {
		switch n.Type {
		case specs.UserNamespace:
			flags |= unix.CLONE_NEWUSER
		case specs.MountNamespace:
			flags |= unix.CLONE_NEWNS
		case specs.PIDNamespace:
			flags |= unix.CLONE_NEWPID
		case specs.IPCNamespace:
			flags |= unix.CLONE_NEWIPC
		case specs.UTSNamespace:
			flags |= unix.CLONE_NEWUTS
		case specs.CgroupNamespace:
			flags |= unix.CLONE_NEWCGROUP
		case specs.NetworkNamespace:
			flags |= unix.CLONE_NEWNET
		}
	}
	return flags
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
