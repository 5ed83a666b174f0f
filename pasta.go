// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/pasta"
	"github.com/slipway-net/slipway/netstack/attach/sandbox"
	"github.com/slipway-net/slipway/tap"
)

// pastaName is the name under which the program is pasta.
const pastaName = "pasta"

// runPasta is `slipway pasta`.
func runPasta(args []string, stdout, stderr io.Writer) int {
	return pastaMain(pastaName, args, stdout, stderr)
}

// pastaMain is pasta, which was called by that name.
func pastaMain(name string, args []string, stdout, stderr io.Writer) int {
	signal.Ignore(syscall.SIGPIPE)
	o, err := pasta.Parse(args)
	switch {
	case err != nil:
		return pastaError(stderr, err)
	case o.Action == pasta.Help:
		fmt.Fprint(stdout, pasta.HelpText(name))
		return exitOK
	case o.Action == pasta.Version:
		fmt.Fprint(stdout, pasta.VersionText(versionText()))
		return exitOK
	case o.Action == pasta.Spawn:
		return pastaSpawn(o, stderr)
	case o.Foreground:
		h := pastaHelper{o: o, stderr: stderr, readyFD: -1}
		return h.main()
	}
	return pastaDetach(args, stderr)
}

// pastaError writes an error, in as many lines as it has, and returns the exit code.
func pastaError(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "%s: %s\n", pastaName, printable(err.Error()))
	return exitError
}

// A pastaHelper is a session that is looked after as pasta does it.
type pastaHelper struct {
	o       pasta.Options
	stderr  io.Writer
	readyFD int // of who waits for the daemon, -1 for none
	// leave is called when the network is up, in the background: nothing is written to
	// stderr from then on.
	leave func()
	log   *pastaLog
	pid   *pastaPID // nil for none
}

// main runs the session of a namespace that is there, and returns the exit code.
func (h *pastaHelper) main() int {
	p, err := newProcess(h.readyFD, -1)
	if err != nil {
		return pastaError(h.stderr, err)
	}
	defer h.close()
	ctx, stop := watchSignals(syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT)
	defer stop()
	err = h.carry(ctx, p, nil)
	switch sig := stop(); {
	case sig == syscall.SIGINT:
		return dieBy(sig)
	case sig != 0, err == nil, errors.Is(err, attach.ErrGone):
		return exitOK
	}
	if h.log != nil && h.log.left() {
		h.log.logger.Error("the session has ended", "err", err)
		return exitError
	}
	return pastaError(h.stderr, err)
}

// carry makes the session of a namespace that is there, or of that of the command c, tells
// who waits for it, lets the command go, and carries the network until ctx is done.
func (h *pastaHelper) carry(ctx context.Context, p *process, c *spawned) error {
	cfg, err := h.begin()
	if err != nil {
		return err
	}
	if c != nil {
		cfg.Tap.Target, cfg.OwnNamespace = tap.Target{PID: c.cmd.Process.Pid}, true
	}
	s, err := attach.New(cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	stopCapture, err := (&netFlags{pcap: h.o.PcapFile}).capture(s)
	if err != nil {
		return err
	}
	defer stopCapture()
	// The end of the path or the process is the end, whoever is still in the namespace.
	s.Device().ForgetProc()
	if err := h.pid.empty(); err != nil {
		return err
	}
	if _, err := s.Confine(pastaConfinement(cfg)); err != nil {
		return err
	}
	if err := h.tell(); err != nil {
		return err
	}
	if err := p.ready(); err != nil {
		return err
	}
	if err := c.release(); err != nil {
		return err
	}
	return s.Run(ctx)
}

// pastaConfinement is what the process gives up.
func pastaConfinement(cfg attach.Config) (p sandbox.Policy) {
	if cfg.OwnNamespace {
		// It has a command to wait for, and is not to leave the user's files unseen.
		p.Root, p.Filter = sandbox.Off, sandbox.Off
	}
	if cfg.Auto != nil {
		p.Keep = sandbox.LowPorts()
	}
	return p
}

// begin opens what the options name, and returns the configuration of the session.
func (h *pastaHelper) begin() (cfg attach.Config, err error) {
	if err := checkRunAs(h.o.RunAs); err != nil {
		return cfg, err
	}
	host, err := pasta.ReadHost()
	if err != nil {
		return cfg, err
	}
	if cfg, err = h.o.Resolve(host); err != nil {
		return cfg, err
	}
	if err := attach.Tune(); err != nil {
		return cfg, err
	}
	if h.pid, err = openPastaPID(h.o.PIDFile); err != nil {
		return cfg, err
	}
	if h.log, err = newPastaLog(h.o, h.stderr); err != nil {
		return cfg, err
	}
	cfg.Log, cfg.Unwatched, cfg.Version = h.log.logger, h.o.KeepOpen, versionText()
	return cfg, nil
}

// close closes what begin has opened. The log is the last.
func (h *pastaHelper) close() {
	h.pid.close()
	if h.log != nil {
		h.log.Close()
	}
}

// tell writes the process id, and leaves the caller where there is one to leave.
func (h *pastaHelper) tell() error {
	if err := h.pid.write(); err != nil {
		return err
	}
	if h.leave != nil {
		h.log.leave()
		h.leave()
	}
	return nil
}

// pastaLevel is the least that is logged.
func pastaLevel(v pasta.Verbosity) slog.Level {
	switch v {
	case pasta.Quiet:
		return slog.LevelWarn
	case pasta.Debug:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
