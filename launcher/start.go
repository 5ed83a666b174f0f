// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/userns"
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
		ct.bundle.order(o)
	}
	encoded := o.Encode()
	if len(encoded) > sandbox.MaxFrame {
		return nil, fmt.Errorf("%w: command and environment are longer than %d bytes", ErrUsage, sandbox.MaxFrame)
	}
	ct.order = encoded
	r, err := ct.launch((*running).startInit)
	if err != nil && ct.bundle != nil {
		ct.bundle.close()
	}
	return r, err
}

// launch has start start an init stage, which has the other end of the control it
// gets, and begins to look after it.
func (ct *Container) launch(start func(*running, *sandbox.Control) error) (*running, error) {
	ours, theirs, err := sandbox.NewControls()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	r := &running{ct: ct, ctl: ours, pidfd: -1, frames: make(chan received), ended: make(chan int, 1), gone: make(chan struct{}), rootErr: make(chan error, 1), endNet: func() {}}
	begun := make(chan error, 1)
	r.work.Go(func() { r.hold(begun, func() error { return start(r, theirs) }) })
	err = <-begun
	for _, o := range r.outlets {
		o.started()
	}
	if err != nil {
		r.closeOutlets()
		ours.Close()
		if r.group != nil {
			r.group.close()
		}
		return nil, err
	}
	r.work.Go(r.receive)
	r.work.Go(r.await)
	// If the init stage ended early its failure is what receive gets.
	_ = sandbox.WriteFrame(ours, sandbox.FrameOrder, ct.order)
	return r, nil
}

// hold starts the init stage on a thread that stays until the stage is gone: it dies
// with the thread that started it (PR_SET_PDEATHSIG). No other goroutine is locked to a
// thread, since each of its steps would then be two changes of threads.
func (r *running) hold(begun chan<- error, start func() error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := start()
	begun <- err
	if err == nil {
		<-r.gone
	}
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
	fds := []uintptr{uintptr(streams[0]), uintptr(streams[1]), uintptr(streams[2]), uintptr(ctl.FD())}
	exe, err := c.Stage.open()
	if err != nil {
		return err
	}
	defer exe.Close()
	mode := runMode(exe)
	if r.ct.bundle != nil {
		mode = sandbox.ModeRuntime
	}
	fds = append(fds, exe.Fd())
	sys := initAttr(c.Net, r.ct.plan.mapped)
	sys.PidFD = &r.pidfd
	if !c.Limits.IsZero() {
		if r.group, err = limitedGroup(groupPrefix+c.Hostname, c.Limits); err != nil {
			return err
		}
		sys.UseCgroupFD, sys.CgroupFD = true, r.group.fd
	}
	if c.Net == NetJoined {
		return r.startJoined(fds, mode)
	}
	r.pid, _, err = syscall.StartProcess(stagePath, []string{sandbox.InitArg, mode}, &syscall.ProcAttr{
		Dir: "/", Env: stageEnv(), Files: fds, Sys: sys,
	})
	if err != nil {
		return startError(err)
	}
	return nil
}

// selfExe is this process's binary.
const selfExe = "/proc/self/exe"

// stageEnv is the environment of an init stage, which does one thing after the other: a
// second processor would have the Go runtime look for work for it.
func stageEnv() []string { return append(inside.Environ(), "GOMAXPROCS=1") }

// stagePath is what an init stage is executed from: the descriptor behind the control
// socket's. The stage closes it when it executes the command.
const stagePath = "/proc/self/fd/4"

// initAttr says which namespaces the init stage is started in. Unless its ids are
// mapped later, the caller's are 0 in it.
func initAttr(net NetMode, mapped bool) *syscall.SysProcAttr {
	flags := unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	if net != NetHost {
		flags |= unix.CLONE_NEWNET
	}
	attr := &syscall.SysProcAttr{
		Cloneflags: uintptr(flags),
		Pdeathsig:  unix.SIGKILL,
		// Signals of the caller's terminal come through the supervisor alone.
		Setsid: true,
	}
	if mapped {
		attr.AmbientCaps = userns.AllCaps()
		return attr
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	return attr
}

// prepare maps the ids and sets up the network, side by side: neither needs the other,
// and both wait for other processes.
func (r *running) prepare(ctx context.Context) error {
	mapped := make(chan error, 1)
	if r.ct.cfg.Net == NetJoined { // they are, by whoever made the user namespace
		if r.ct.plan.mapped {
			r.tellMapped()
		}
		mapped <- nil
	} else if r.ct.plan.mapped {
		r.work.Go(func() { mapped <- r.mapIDs() })
	} else {
		mapped <- nil
	}
	err := r.network(ctx)
	if merr := <-mapped; merr != nil {
		return merr
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

// mapIDs writes the mapping and tells the init stage.
func (r *running) mapIDs() error {
	if err := r.ct.cfg.IDs.Write(r.pid); err != nil {
		return err
	}
	r.tellMapped()
	return nil
}

// tellMapped tells the init stage that its ids are mapped.
func (r *running) tellMapped() {
	// If it is gone the wait tells why.
	_ = sandbox.WriteFrame(r.ctl, sandbox.FrameMapped, nil)
}

// network sets up the network and starts to carry it.
func (r *running) network(ctx context.Context) error {
	if r.ct.cfg.Net != NetPrivate {
		return nil
	}
	n, err := r.ct.cfg.Session(r.pid)
	if err != nil {
		return fmt.Errorf("set up the network: %w", err)
	}
	r.net = n
	// The network outlives ctx: the command may need it to end in order.
	nctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.endNet = cancel
	r.netErr = make(chan error, 1)
	r.work.Go(func() { r.netErr <- n.Run(nctx) })
	return nil
}
