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
	"syscall"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/tap"
	"github.com/spf13/pflag"
)

const (
	runSynopsis = "run [flags] -- COMMAND [ARG...]"
	runAbout    = `Runs COMMAND in a container: the host's root is its file system, and what it
writes is thrown away at the end. Its exit code is passed on; 125 means that
slipway failed, 126 that COMMAND cannot be run, 127 that it was not found.`
)

// exitRun is the exit code of `slipway run` where slipway itself failed, as other
// container tools have it.
const exitRun = 125

// runRun is `slipway run`.
func runRun(args []string, stdout, stderr io.Writer) int {
	var net netFlags
	var lans lanFlags
	cfg := launcher.Config{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	fs := newFlagSet("run")
	launcher.AddFlags(fs, &cfg, os.LookupEnv)
	net.add(fs)
	lans.add(fs)
	must(fs.Lookup("log-level").Value.Set("warn"))
	fs.Lookup("log-level").DefValue = "warn"
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			usage(stdout, fs, runSynopsis, runAbout)
			return exitOK
		}
		return report(stderr, fmt.Errorf("%w: %w", errUsage, err))
	}
	code, err := run(fs, &net, &lans, cfg, stderr)
	switch {
	case isUsage(err):
		fmt.Fprintf(stderr, "slipway: %v\n", err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(stderr, "slipway: %v\n", err)
	}
	return code
}

// run starts the container and returns its exit code.
func run(fs *pflag.FlagSet, net *netFlags, lans *lanFlags, cfg launcher.Config, stderr io.Writer) (int, error) {
	var err error
	if cfg.Args, err = launcher.Command(fs); err != nil {
		return exitRun, err
	}
	if err := lans.check(cfg); err != nil {
		return exitRun, err
	}
	w := newLogWriter(stderr)
	defer w.Close()
	log, err := net.logger(w)
	if err != nil {
		return exitRun, err
	}
	session, err := net.config(log)
	if err != nil {
		return exitRun, err
	}
	if err := attach.Tune(); err != nil {
		return exitRun, err
	}
	cfg.Log = log
	describe(&cfg, session)
	cfg.Session = func(pid int) (launcher.Network, error) {
		session.Tap.Target = tap.Target{PID: pid}
		return newContainerNetwork(session, net, log)
	}
	withLans(lans, &cfg, &session, log)
	c, err := launcher.New(cfg)
	if err != nil {
		return exitRun, err
	}
	// The container's init passes signals on; ours only must not kill us first.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP)
	defer stop()
	return c.Run(ctx)
}

// describe fills in what the container's files say of its network.
func describe(cfg *launcher.Config, session attach.Config) {
	for _, f := range session.Tap.Plan.Families() {
		cfg.ContainerAddrs = append(cfg.ContainerAddrs, f.Container)
		if !session.NoDNS {
			cfg.DNS = append(cfg.DNS, f.DNS)
		}
	}
	if !session.NoDNS {
		cfg.Search = attach.Search(session)
	}
}

// A containerNetwork is a session as the launcher knows it, with its capture.
type containerNetwork struct {
	*attach.Session
	stopCapture func()
}

func newContainerNetwork(cfg attach.Config, net *netFlags, log *slog.Logger) (launcher.Network, error) {
	s, err := attach.New(cfg)
	if err != nil {
		return nil, err
	}
	stop, err := net.capture(s)
	if err != nil {
		s.Close()
		return nil, err
	}
	log.Info("network is up", "interface", s.Device().Name(), "mtu", s.Device().MTU(),
		"offload", s.Device().Offload().String(), "path", s.Path())
	return &containerNetwork{s, stop}, nil
}

// Close ends the capture, too.
func (n *containerNetwork) Close() error {
	n.stopCapture()
	return n.Session.Close()
}

// must panics on an error that only a mistake in this program can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
