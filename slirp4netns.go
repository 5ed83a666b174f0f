// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/sandbox"
	"github.com/slipway-net/slipway/netstack/attach/slirp4netns"
	"github.com/slipway-net/slipway/portfwd/slirpapi"
	"golang.org/x/sys/unix"
)

// slirp4netnsName is the name under which the program is slirp4netns.
const slirp4netnsName = "slirp4netns"

// runSlirp4netns is `slipway slirp4netns`.
func runSlirp4netns(args []string, stdout, stderr io.Writer) int {
	return slirp4netnsMain(slirp4netnsName, args, stdout, stderr)
}

// slirp4netnsMain is slirp4netns, which was called by that name.
func slirp4netnsMain(name string, args []string, stdout, stderr io.Writer) int {
	// Who started us may not read what we say, and need not.
	signal.Ignore(syscall.SIGPIPE)
	o, err := slirp4netns.Parse(name, args)
	for _, w := range o.Warnings {
		fmt.Fprintln(stdout, w)
	}
	var a slirp4netns.Attachment
	if err == nil && o.Action == slirp4netns.Attach {
		a, err = o.Resolve()
	}
	if bad, ok := errors.AsType[*slirp4netns.Error](err); ok {
		if bad.Usage {
			fmt.Fprint(stdout, slirp4netns.HelpText(name))
		}
		if text := bad.Error(); text != "" {
			fmt.Fprintln(stderr, text)
		}
		return exitError
	}
	switch o.Action {
	case slirp4netns.Help:
		fmt.Fprint(stdout, slirp4netns.HelpText(name))
		return exitOK
	case slirp4netns.Version:
		fmt.Fprint(stdout, slirp4netns.VersionText(versionText()))
		return exitOK
	}
	for _, w := range a.Warnings {
		fmt.Fprintln(stdout, w)
	}
	h := slirpHelper{o: o, cfg: a.Config, stdout: stdout}
	sig, err := h.attach(stderr)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", slirp4netnsName, err)
		return exitError
	}
	if sig != 0 {
		return dieBy(sig)
	}
	return exitOK
}

// A slirpHelper is a session that is looked after as slirp4netns does it.
type slirpHelper struct {
	o      slirp4netns.Options
	cfg    attach.Config
	stdout io.Writer
}

// attach runs the session and returns when it has ended: with the signal that ended
// it, if one did.
func (h *slirpHelper) attach(stderr io.Writer) (syscall.Signal, error) {
	w := newLogWriter(stderr)
	defer w.Close()
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
	h.cfg.Log = log
	var keep []int
	if h.o.TapFD >= 0 {
		keep = append(keep, h.o.TapFD)
	}
	p, err := newProcess(h.o.ReadyFD, h.o.ExitFD, keep...)
	if err != nil {
		return 0, err
	}
	if err := attach.Tune(); err != nil {
		return 0, err
	}
	ctx, stop := watchSignals(syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err = h.serve(ctx, p, w, log)
	if sig := stop(); sig != 0 {
		return sig, nil // whatever it broke off
	}
	if errors.Is(err, attach.ErrGone) {
		return 0, nil
	}
	return 0, err
}

// serve makes the session, tells who waits for it, and runs it.
func (h *slirpHelper) serve(ctx context.Context, p *process, stderr io.Writer, log *slog.Logger) error {
	if h.o.BESS != "" {
		fmt.Fprintf(stderr, "Waiting for connection to %s\n", h.o.BESS)
	}
	d, err := h.o.OpenDevice(ctx)
	if err != nil {
		return err
	}
	if d != nil {
		defer d.Close()
	}
	h.cfg.Device = d
	s, err := attach.New(h.cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Fprint(h.stdout, h.o.Banner(h.cfg))
	if h.o.APISocket != "" {
		// From where it is removed, the working directory may be out of reach.
		if h.o.APISocket, err = filepath.Abs(h.o.APISocket); err != nil {
			return fmt.Errorf("find the API socket: %w", err)
		}
		api, err := slirpapi.Listen(h.o.APISocket, slirpapi.Config{Ports: s.Ports(), Plan: h.cfg.Tap.Plan, Log: log})
		if err != nil {
			return err
		}
		defer api.Close()
	}
	if err := h.confine(s); err != nil {
		return err
	}
	ctx, cancel := p.watchExit(ctx, log)
	defer cancel()
	if err := p.ready(); err != nil {
		return err
	}
	return s.Run(ctx)
}

// confine puts in force what can be had, and fails where that is less than was asked
// for: --enable-sandbox is an empty root, or Landlock for who has no right to make that.
// Ports below 1024 may be asked for later.
func (h *slirpHelper) confine(s *attach.Session) error {
	p := sandbox.Policy{Root: sandbox.Off, Keep: sandbox.LowPorts()}
	if h.o.Sandbox {
		p.Root = sandbox.Auto
	}
	if h.o.Seccomp {
		p.Filter = sandbox.Require
	}
	if h.o.APISocket != "" {
		p.Remove = append(p.Remove, h.o.APISocket)
	}
	state, err := s.Confine(p)
	if err == nil && h.o.Sandbox && state.Root != nil && state.Landlock != nil {
		return fmt.Errorf("--enable-sandbox: no empty root: %w; no Landlock: %w", state.Root, state.Landlock)
	}
	return err
}

// watchSignals returns a context that ends with the first of the signals.
// stop ends the watch and returns that signal, 0 for none; it may be called again.
func watchSignals(which ...os.Signal) (ctx context.Context, stop func() syscall.Signal) {
	ctx, cancel := context.WithCancel(context.Background())
	sigs, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(sigs, which...)
	var got atomic.Int32
	go func() {
		defer close(done)
		select {
		case sig := <-sigs:
			got.Store(int32(sig.(syscall.Signal)))
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() syscall.Signal {
		cancel()
		<-done
		signal.Stop(sigs)
		return syscall.Signal(got.Load())
	}
}

// dieBy ends the process by the signal, as its waiter expects of slirp4netns, which
// handles none. It returns the exit code to take where that cannot be done: the first
// process of a pid namespace does not die by its own signals.
func dieBy(sig syscall.Signal) int {
	const bySignal = 128 // as shells have it
	if os.Getpid() != 1 {
		signal.Reset(sig)
		runtime.LockOSThread()
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
	}
	return bySignal + int(sig)
}
