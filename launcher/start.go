// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/spawn"
	"github.com/slipway-net/slipway/launcher/userns/inside"
)

// start starts the init stage and sends it the order.
func (ct *Container) start() (*running, error) {
	o, err := ct.plan.order()
	if err != nil {
		return nil, err
	}
	if ct.cfg.Runtime != "" {
		if ct.bundle, err = newBundle(&ct.cfg); err != nil {
			return nil, err
		}
		ct.bundle.order(o, ct.plan.passed)
	}
	encoded := o.Encode()
	if len(encoded) > sandbox.MaxFrame {
		return nil, fmt.Errorf("%w: command and environment are longer than %d bytes", ErrUsage, sandbox.MaxFrame)
	}
	ct.order = encoded
	r := ct.cfg.Begun.take(&ct.cfg)
	if r == nil {
		r, err = ct.launch((*running).startInit)
	}
	if err == nil {
		err = r.follow(ct)
	}
	if err != nil && ct.bundle != nil {
		ct.bundle.close()
	}
	return r, err
}

// launch has start start an init stage, which has the other end of the control it
// gets. Its caller calls follow.
func (ct *Container) launch(start func(*running, *sandbox.Control) error) (*running, error) {
	ours, theirs, err := sandbox.NewControls()
	if err != nil {
		return nil, err
	}
	r := &running{
		ct: ct, ctl: ours, pidfd: -1, frames: make(chan received), ended: make(chan int, 1), gone: make(chan struct{}), rootErr: make(chan error, 1), endNet: func() {},
		begun: make(chan error, 1), ordered: make(chan struct{}), mapped: make(chan error, 1),
	}
	r.work.Go(func() {
		r.hold(func() error {
			defer theirs.Close()
			return start(r, theirs)
		})
	})
	return r, nil
}

// follow waits until the init stage has been started, sends it the order of ct, and begins
// to look after it.
func (r *running) follow(ct *Container) error {
	err := r.wasBegun()
	ct.closeFiles() // which the init stage has, or nobody
	if err != nil {
		return err
	}
	r.ct = ct
	r.work.Go(r.receive)
	r.work.Go(r.await)
	// If the init stage ended early its failure is what receive gets.
	_ = sandbox.WriteFrame(r.ctl, sandbox.FrameOrder, r.ct.order)
	close(r.ordered)
	return nil
}

// wasBegun waits until the init stage has been started. After an error nothing is left
// of it.
func (r *running) wasBegun() error {
	err := <-r.begun
	for _, o := range r.outlets {
		o.started()
	}
	if err == nil {
		return nil
	}
	r.closeOutlets()
	r.ctl.Close()
	if r.group != nil {
		r.group.close()
	}
	return err
}

// hold starts the init stage on a thread that stays until the stage is gone: it dies
// with the thread that started it (PR_SET_PDEATHSIG). Ids of it are mapped at once, on
// the same thread. No other goroutine is locked to a thread, since each of its steps
// would then be two changes of threads.
func (r *running) hold(start func() error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := start()
	r.begun <- err
	if err != nil {
		return
	}
	if !r.ids.IsZero() {
		err := r.ids.Write(r.pid)
		<-r.ordered // which comes before on the control
		if err == nil {
			r.tellMapped()
		}
		r.mapped <- err
	}
	<-r.gone
}

// startInit starts this binary as the init stage, in the container's namespaces.
func (r *running) startInit(ctl *sandbox.Control) error {
	c := &r.ct.cfg
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the null device: %w", err)
	}
	defer unix.Close(null)
	// Go's own descriptors are closed on exec; what this process was started with
	// beyond the streams is not for a container.
	if err := unix.CloseRange(sandbox.ControlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep descriptors from the container: %w", err)
	}
	streams, err := r.streamFDs(null)
	if err != nil {
		return err
	}
	exe, mode, err := r.ct.openInit()
	if err != nil {
		return err
	}
	defer exe.Close()
	if !c.Limits.IsZero() {
		if r.group, err = limitedGroup(groupPrefix+c.Hostname, c.Limits); err != nil {
			return err
		}
		r.ct.group = r.group.dir
	}
	files := slices.Concat(streams[:], []int{ctl.FD()}, c.Files)
	if c.Net == NetJoined {
		return r.startJoined(int(exe.Fd()), files, mode)
	}
	sc := spawn.Config{
		New: newNamespaces(c.Net), Own: !r.ct.plan.mapped, Exe: int(exe.Fd()),
		Args: []string{sandbox.InitArg, mode, strconv.Itoa(len(c.Files))}, Env: stageEnv(), Files: files,
	}
	if mode != sandbox.ModeRuntime { // which has its own idea of what the command gets
		sc.TimerSlack = stageSlack
	}
	if r.group != nil {
		sc.Cgroup = r.group.fd
	}
	if r.ct.plan.mapped {
		r.ids = c.IDs
	}
	if r.pid, r.pidfd, err = spawn.Start(sc); err != nil {
		return startError(err)
	}
	return nil
}

// openInit opens the binary that is the init stage, and says what it is started for.
func (ct *Container) openInit() (exe *os.File, mode string, err error) {
	if ct.still { // the small binary knows no archives
		exe, err = openSelf()
		return exe, sandbox.ModeStill, err
	}
	if exe, err = ct.cfg.Stage.open(); err != nil {
		return nil, "", err
	}
	if ct.bundle != nil {
		return exe, sandbox.ModeRuntime, nil
	}
	return exe, runMode(exe), nil
}

// stageSlack is the timer slack of the init stage in nanoseconds. The Go runtime's monitor
// sleeps for 20 µs at a time, and with the usual slack of 50 µs it takes the processor from
// the stage fifty times, and each time from the goroutine, for no other. The command has
// the caller's.
const stageSlack = 5_000_000

// selfExe is this process's binary.
const selfExe = "/proc/self/exe"

// stageEnv is the environment of an init stage, which does one thing after the other: a
// second processor would have the Go runtime look for work for it.
func stageEnv() []string { return append(inside.Environ(), "GOMAXPROCS=1") }

// newNamespaces are the namespaces that a container has of its own.
func newNamespaces(net NetMode) uintptr {
	flags := uintptr(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP)
	if net != NetHost {
		flags |= unix.CLONE_NEWNET
	}
	return flags
}

// prepare sets up the network, while the thread that holds the init stage maps the ids:
// neither needs the other, and both wait for other processes.
func (r *running) prepare() error {
	if r.ct.cfg.Net == NetJoined && r.ct.plan.mapped { // they are, by whoever made the user namespace
		r.tellMapped()
	}
	err := r.network()
	if !r.ids.IsZero() {
		if merr := <-r.mapped; merr != nil {
			return merr
		}
	}
	if err == nil && r.ct.bundle != nil {
		return r.configure()
	}
	return err
}

// configure writes the runtime's configuration when the stage has told who the user is.
func (r *running) configure() error {
	f, ok := <-r.frames
	if ok && f.kind == sandbox.FrameFuse {
		if err := r.serveRoot(f.fd); err != nil {
			return err
		}
		f, ok = <-r.frames
	}
	switch {
	case !ok:
		return errNoUser
	case f.kind == sandbox.FrameFailure:
		return sandbox.DecodeFailure(f.payload)
	case f.kind != sandbox.FrameUser:
		return errNoUser
	}
	id, err := sandbox.DecodeIdentity(f.payload)
	if err != nil {
		return err
	}
	return r.ct.bundle.write(&r.ct.plan, &r.ct.cfg, id)
}

// tellMapped tells the init stage that its ids are mapped.
func (r *running) tellMapped() {
	// If it is gone the wait tells why.
	_ = sandbox.WriteFrame(r.ctl, sandbox.FrameMapped, nil)
}

// network sets up the network.
func (r *running) network() (err error) {
	if r.ct.cfg.Net != NetPrivate {
		return nil
	}
	if r.net, err = r.ct.cfg.Session(r.pid); err != nil {
		r.net = nil
		return fmt.Errorf("set up the network: %w", err)
	}
	return nil
}

// carry starts to carry the network, while the command starts: what that sends first
// waits for it.
func (r *running) carry(ctx context.Context) {
	if r.net == nil {
		return
	}
	// The network outlives ctx: the command may need it to end in order.
	nctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.endNet = cancel
	r.netErr = make(chan error, 1)
	r.work.Go(func() { r.netErr <- r.net.Run(nctx) })
}
