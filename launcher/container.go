// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long a command has after SIGTERM before it is killed, when the
// context of Run is done: that of podman stop.
const stopGrace = 10 * time.Second

// A Container is one command in namespaces of its own. It is run once.
type Container struct {
	cfg    Config
	bundle bundle
	asked  chan func(*running) // for the goroutine of Run, while the command runs
	ended  chan struct{}       // closed at the end of Run
	order  []byte              // what the init stage is told
}

// New checks c and writes the container down; it starts nothing and holds
// nothing. Its error is an ErrUsage if the caller's words are at fault.
func New(c Config) (*Container, error) { return newContainer(c, false) }

func newContainer(c Config, legacy bool) (*Container, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	var streams [3]bool
	pty := c.TTY || isTerminal(c.Stdin)
	for i, f := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
		streams[i] = c.TTY || pty && isTerminal(f)
	}
	h := Host{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Tun: hasTun(), Terminal: pty}
	if isTerminal(c.Stdin) {
		rows, columns := windowSize(c.Stdin)
		h.Rows, h.Columns = uint(rows), uint(columns)
	}
	files, err := etcFiles(c)
	if err != nil {
		return nil, err
	}
	return &Container{
		cfg:    c,
		bundle: bundle{Spec: Spec(c, h), Files: files, Streams: streams, Legacy: legacy},
		asked:  make(chan func(*running)),
		ended:  make(chan struct{}),
	}, nil
}

// Run starts the container, passes signals and the terminal on, and returns the
// command's exit code once it has ended (128 plus the number of a signal that
// ended it). An error is a failure of the launcher or the network; the code is
// then 125, or 126 or 127 if the command could not be executed or found. When ctx
// is done, the command is asked to end by SIGTERM and killed ten seconds later.
func (ct *Container) Run(ctx context.Context) (code int, err error) {
	// The container dies with the thread that started it (PR_SET_PDEATHSIG), so
	// this one must outlive it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(ct.ended)
	r, err := ct.start()
	if err != nil {
		return exitOurs, err
	}
	defer r.close()
	sigs := newSignals()
	defer sigs.stop()
	if err := r.network(ctx); err != nil {
		r.kill()
		// What the init stage says goes before what follows from its end.
		code, ierr := r.wait(ctx, sigs)
		if ierr != nil {
			return code, ierr
		}
		return exitOurs, err
	}
	// If the init stage is gone the wait tells why.
	_ = writeFrame(r.ctl, frameGo, nil)
	return r.wait(ctx, sigs)
}

// A running is a started container.
type running struct {
	ct     *Container
	ctl    *control
	proc   child
	frames chan received // from the init stage; closed at its end
	ended  chan int      // one exit code
	netErr chan error    // the network's end; nil channel without one
	net    Network
	endNet context.CancelFunc
	work   sync.WaitGroup
	term   *terminal
}

// A child is a process of ours: the init stage, or one that joined a container.
type child struct {
	pid  int
	kill func() error
	wait func() (unix.WaitStatus, error)
}

// childOf is the child that package os has started.
func childOf(p *os.Process) child {
	return child{pid: p.Pid, kill: p.Kill, wait: func() (unix.WaitStatus, error) {
		st, err := p.Wait()
		if err != nil {
			return 0, err
		}
		return unix.WaitStatus(st.Sys().(syscall.WaitStatus)), nil
	}}
}

// received is a frame from the init stage.
type received struct {
	kind    frameKind
	payload []byte
	fd      int // -1 without one
}

// start starts the init stage and sends it the bundle.
func (ct *Container) start() (*running, error) {
	ours, theirs, err := newControls()
	if err != nil {
		return nil, err
	}
	defer theirs.close()
	// Encoding takes about as long as starting a process does.
	var encoded []byte
	var encErr error
	var encoding sync.WaitGroup
	encoding.Go(func() { encoded, encErr = json.Marshal(&ct.bundle) })
	proc, err := ct.startInit(theirs)
	encoding.Wait()
	if err != nil {
		ours.close()
		return nil, err
	}
	ct.order = encoded
	r := newRunning(ct, ours, childOf(proc))
	if encErr == nil && len(encoded) > maxFrame {
		encErr = fmt.Errorf("%w: command and environment are longer than %d bytes", ErrUsage, maxFrame)
	}
	if encErr != nil {
		r.kill()
		r.close()
		return nil, fmt.Errorf("encode the spec: %w", encErr)
	}
	// If the init stage ended early its failure is what receive gets.
	_ = writeFrame(ours, frameBundle, encoded)
	return r, nil
}

// newRunning begins to look after a child that has the other end of ctl.
func newRunning(ct *Container, ctl *control, proc child) *running {
	r := &running{ct: ct, ctl: ctl, proc: proc, frames: make(chan received), ended: make(chan int, 1), endNet: func() {}}
	r.work.Go(r.receive)
	r.work.Go(r.await)
	return r
}

// startInit starts this binary as the init stage, in the container's namespaces
// and with the caller's uid mapped to 0.
func (ct *Container) startInit(ctl *control) (*os.Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the null device: %w", err)
	}
	defer null.Close()
	// A File of a duplicate, which may be closed without closing the control.
	dup, err := unix.FcntlInt(uintptr(ctl.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("pass the control socket: %w", err)
	}
	socket := os.NewFile(uintptr(dup), "control")
	defer socket.Close()
	// Go's own descriptors are closed on exec; what this process was started with
	// beyond the streams is not for a container.
	if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("keep descriptors from the container: %w", err)
	}
	files := []*os.File{ct.cfg.Stdin, ct.cfg.Stdout, ct.cfg.Stderr, socket}
	for i := range files {
		if files[i] == nil || i < len(ct.bundle.Streams) && ct.bundle.Streams[i] {
			files[i] = null
		}
	}
	proc, err := os.StartProcess("/proc/self/exe", []string{InitArg, initRun}, &os.ProcAttr{
		Dir:   "/",
		Env:   initEnv(),
		Files: files,
		Sys:   initAttr(ct.cfg.Net),
	})
	if err != nil {
		return nil, startError(err)
	}
	return proc, nil
}

// initEnv is the environment of an init stage: nothing of the caller's, and no
// look at cgroups for a CPU limit, which would take the Go runtime half a
// millisecond.
func initEnv() []string { return []string{"GODEBUG=containermaxprocs=0"} }

// initAttr says which namespaces the init stage is started in.
func initAttr(net NetMode) *syscall.SysProcAttr {
	flags := unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	if net != NetHost {
		flags |= unix.CLONE_NEWNET
	}
	return &syscall.SysProcAttr{
		Cloneflags:  uintptr(flags),
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
		// Signals of the caller's terminal come through the supervisor alone.
		Setsid: true,
	}
}

// network sets up the network and starts to carry it.
func (r *running) network(ctx context.Context) error {
	if r.ct.cfg.Net != NetPrivate {
		return nil
	}
	n, err := r.ct.cfg.Session(r.proc.pid)
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

// wait looks after the container until it has ended.
func (r *running) wait(ctx context.Context, sigs *signals) (int, error) {
	var failed, netFailed error
	done, frames, netErr := ctx.Done(), r.frames, r.netErr
	var grace <-chan time.Time
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				frames = nil
				break
			}
			if err := r.handle(f); err != nil {
				failed = err
			}
		case netFailed = <-netErr:
			netErr = nil
			r.kill()
		case sig := <-sigs.c:
			r.signal(sig)
		case do := <-r.ct.asked:
			do(r)
		case <-done:
			done = nil
			r.signal(unix.SIGTERM)
			t := time.NewTimer(stopGrace)
			defer t.Stop()
			grace = t.C
		case <-grace:
			r.kill()
		case code := <-r.ended:
			if frames != nil {
				for f := range frames {
					if err := r.handle(f); err != nil {
						failed = err
					}
				}
			}
			return r.result(code, failed, netFailed)
		}
	}
}

// result is what Run returns for a container that ended with code.
func (r *running) result(code int, failed, netFailed error) (int, error) {
	if failed != nil {
		return failureOf(failed).Code, failed
	}
	// The network may end a moment before the container that it belongs to.
	if netFailed != nil && code == exitSignal+int(unix.SIGKILL) {
		return exitOurs, fmt.Errorf("the network failed: %w", netFailed)
	}
	return code, nil
}

// handle obeys a frame of the init stage.
func (r *running) handle(f received) error {
	switch f.kind {
	case frameConsole:
		if f.fd < 0 || r.term != nil {
			r.kill()
			return errors.New("the init stage sent no terminal")
		}
		t, err := newTerminal(f.fd, r.ct.cfg, r.ct.bundle.Streams)
		if err != nil {
			r.kill()
			return err
		}
		r.term = t
		return nil
	case frameStarted:
		if r.ct.cfg.Started != nil {
			r.ct.cfg.Started(r.proc.pid)
		}
	case frameFailure:
		var fail Failure
		if err := json.Unmarshal(f.payload, &fail); err != nil {
			return fmt.Errorf("the init stage failed and could not say why: %w", err)
		}
		return &fail
	}
	return nil
}

// signal passes a signal on to the command.
func (r *running) signal(sig unix.Signal) {
	if sig == unix.SIGWINCH && r.term != nil {
		r.term.resize()
		return
	}
	// If the init stage is gone the signal comes too late.
	_ = writeFrame(r.ctl, frameSignal, []byte{byte(sig)})
}

// kill ends the container at once; the kernel kills what lives under pid 1.
func (r *running) kill() { _ = r.proc.kill() }

// receive reads what the init stage says until it ends.
func (r *running) receive() {
	defer close(r.frames)
	for {
		kind, payload, err := readFrame(r.ctl)
		if err != nil {
			return
		}
		r.frames <- received{kind, payload, r.ctl.takePassed()}
	}
}

// await waits for the end of pid 1.
func (r *running) await() {
	ws, err := r.proc.wait()
	if err != nil {
		r.ended <- exitOurs
		return
	}
	if ws.Signaled() {
		r.ended <- exitSignal + int(ws.Signal())
		return
	}
	r.ended <- ws.ExitStatus()
}

// close frees what belongs to a container that has ended.
func (r *running) close() {
	if r.term != nil {
		r.term.stop()
	}
	r.endNet()
	for f := range r.frames { // what nobody waited for
		if f.fd >= 0 {
			unix.Close(f.fd)
		}
	}
	r.work.Wait()
	if r.net != nil {
		if err := r.net.Close(); err != nil {
			r.ct.cfg.Log.Warn("close the network", "err", err)
		}
	}
	r.ctl.close()
}

// hasTun reports whether the host has the tun device.
func hasTun() bool {
	var st unix.Stat_t
	return unix.Stat("/dev/net/tun", &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(majorMisc, minorTun)
}
