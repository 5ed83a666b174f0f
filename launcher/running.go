// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/userns"
)

// A running is a started container.
type running struct {
	ct    *Container
	ctl   *sandbox.Control
	pid   int // of the container's first process
	pidfd int
	// command is what the init stage has started in a container that runs, and commands
	// brings it to who waits for it; a nil channel is for a stage that becomes the command.
	command  process
	commands chan process
	started  bool           // the command has been executed
	aborted  bool           // it never will be
	early    []unix.Signal  // for it, from before that
	begun    chan error     // the outcome of the init stage's start
	ids      userns.Mapping // what the holding thread maps; zero for nothing
	ordered  chan struct{}  // closed when the order is on its way
	mapped   chan error     // the outcome of the mapping of ids
	frames   chan received  // from the init stage; closed at its end
	ended    chan int       // one exit code
	gone     chan struct{}  // closed when pid 1 has been waited for
	netErr   chan error     // the network's end; nil channel without one
	rootErr  chan error     // the end of who serves the root
	served   bool           // there is one whose end has not been seen
	net      Network
	endNet   context.CancelFunc
	work     sync.WaitGroup
	after    sync.WaitGroup // what is done beside close
	term     *terminal
	outlets  []*outlet // to terminals that would be streams of the command's
	group    *cgroup   // nil without limits
}

// received is a frame from the init stage.
type received struct {
	kind    sandbox.FrameKind
	payload []byte
	fd      int // -1 without one
}

// wait looks after the container until it has ended.
func (r *running) wait(ctx context.Context, sigs *signals) (int, error) {
	var failed, lost error
	done, frames, netErr := ctx.Done(), r.frames, r.netErr
	var grace <-chan time.Time
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				frames = nil
				r.replaced(failed)
				break
			}
			if err := r.handle(f); err != nil {
				failed = err
			}
		case err := <-netErr:
			netErr = nil
			if err != nil {
				lost = fmt.Errorf("the network failed: %w", err)
			}
			r.kill()
		case err := <-r.rootErr:
			lost = cmp.Or(r.rootEnded(err), lost)
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
				r.replaced(failed)
			}
			if r.served && (code > sandbox.ExitSignal || failed != nil) {
				lost = cmp.Or(r.rootEnded(<-r.rootErr), lost) // which may be why
			}
			return r.result(code, failed, lost)
		}
	}
}

// result is what Run returns for a container that ended with code.
func (r *running) result(code int, failed, lost error) (int, error) {
	if failed != nil && lost != nil {
		return sandbox.FailureOf(failed).Code, fmt.Errorf("%w: %w", failed, lost)
	}
	if failed != nil {
		return sandbox.FailureOf(failed).Code, failed
	}
	// What it lives on may end a moment before the container that it belongs to.
	// Without its files a command may also get SIGBUS.
	if lost != nil && code > sandbox.ExitSignal {
		return sandbox.ExitOurs, lost
	}
	return code, nil
}

// rootEnded is the error of the end of who serves the root; an end with the last mount of
// it is none.
func (r *running) rootEnded(err error) error {
	r.served = false
	if err == nil {
		return nil
	}
	return fmt.Errorf("the root directory went away: %w", err)
}

// handle obeys a frame of the init stage.
func (r *running) handle(f received) error {
	switch f.kind {
	case sandbox.FrameConsole:
		if f.fd < 0 || r.term != nil {
			r.kill()
			return errors.New("the init stage sent no terminal")
		}
		t, err := newTerminal(f.fd, r.ct.cfg, r.ct.plan.streams)
		if err != nil {
			r.kill()
			return err
		}
		r.term = t
		return nil
	case sandbox.FrameFuse:
		return r.serveRoot(f.fd)
	case sandbox.FrameStarted:
		return r.adopt(f.payload)
	case sandbox.FrameFailure:
		return sandbox.DecodeFailure(f.payload)
	}
	return nil
}

// replaced is called at the end of the init stage's frames: where the command takes
// its place as pid 1, executing it closes the socket.
func (r *running) replaced(failed error) {
	if r.commands != nil {
		close(r.commands)
	} else if !r.ct.plan.init && !r.aborted && failed == nil {
		r.start()
	}
}

// adopt takes note that the command has been executed, by the init stage's child or as
// ours. What the frame says is believed of a child of ours alone: until it executes, the
// command has the socket, too.
func (r *running) adopt(payload []byte) error {
	if r.commands != nil && r.command.fd == 0 {
		c, err := openChild(payload)
		if err == nil && c.pid == r.pid {
			unix.Close(c.fd)
			err = errors.New("the init stage named itself")
		}
		if err != nil {
			return err
		}
		r.command = c
		r.commands <- c
	}
	r.start()
	return nil
}

// start tells once that the command has been executed.
func (r *running) start() {
	if r.started {
		return
	}
	r.started = true
	if r.ct.cfg.Started != nil {
		r.ct.cfg.Started(r.pid)
	}
	for _, sig := range r.early {
		r.signal(sig)
	}
	r.early = nil
}

// signal passes a signal on to the command.
func (r *running) signal(sig unix.Signal) {
	switch {
	case sig == unix.SIGWINCH && r.term != nil:
		r.term.resize()
	case r.ct.plan.init:
		// If the init stage is gone the signal comes too late.
		_ = sandbox.WriteFrame(r.ctl, sandbox.FrameSignal, []byte{byte(sig)})
	case r.started:
		_ = unix.PidfdSendSignal(r.commandFD(), sig, nil, 0) // it may just have ended
	case sig == unix.SIGKILL:
		r.kill()
	case slices.Contains(r.early, sig):
		if sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGQUIT {
			r.kill() // who says it twice has waited long enough
		}
	default:
		// The command may run already, and the socket's end not have been seen.
		r.early = append(r.early, sig)
	}
}

// kill ends the container at once; the kernel kills what lives under pid 1.
func (r *running) kill() { _ = unix.PidfdSendSignal(r.commandFD(), unix.SIGKILL, nil, 0) }

// commandFD is the pidfd of the command, or of the init stage while that is all there is.
func (r *running) commandFD() int {
	if r.command.fd != 0 {
		return r.command.fd
	}
	return r.pidfd
}

// receive reads what the init stage says until it ends.
func (r *running) receive() {
	defer close(r.frames)
	for {
		kind, payload, err := sandbox.ReadFrame(r.ctl)
		if err != nil {
			return
		}
		r.frames <- received{kind, payload, r.ctl.TakePassed()}
	}
}

// await waits for the end of the command: of the init stage that became it, or pid 1 above
// it, or has started it.
func (r *running) await() {
	defer close(r.gone)
	if r.ct.cfg.Root.Fuse == "" { // which has the layers until it has ended, too
		defer r.tellEnded()
	}
	code := process{r.pid, r.pidfd}.wait()
	// It has said all; others may have its end of the control, and keep it.
	_ = unix.Shutdown(r.ctl.FD(), unix.SHUT_RD)
	if r.commands != nil {
		if c, ok := <-r.commands; ok {
			code = c.wait()
		}
	}
	r.ended <- code
}

// tellEnded calls Config.Ended.
func (r *running) tellEnded() {
	if r.ct.cfg.Ended != nil {
		r.after.Go(r.ct.cfg.Ended)
	}
}

// close frees what belongs to a container that has ended.
func (r *running) close() {
	if r.term != nil {
		r.term.stop()
	}
	r.closeOutlets()
	r.endNet()
	for f := range r.frames { // what nobody waited for
		if f.fd >= 0 {
			unix.Close(f.fd)
		}
	}
	r.work.Wait()
	if r.served {
		if err := r.rootEnded(<-r.rootErr); err != nil {
			r.ct.cfg.Log.Warn("serve the container's root", "err", err)
		}
	}
	if r.ct.cfg.Root.Fuse != "" {
		r.tellEnded()
	}
	defer r.after.Wait()
	if r.net != nil {
		if err := r.net.Close(); err != nil {
			r.ct.cfg.Log.Warn("close the network", "err", err)
		}
	}
	r.ctl.Close()
	unix.Close(r.pidfd)
	if r.command.fd != 0 {
		unix.Close(r.command.fd)
	}
	if r.group != nil {
		r.group.close()
	}
	if r.ct.bundle != nil {
		r.ct.bundle.close()
	}
}
