// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/slipway-net/slipway/cni-plugin/broker"
	"github.com/slipway-net/slipway/cni-plugin/helper"
	"github.com/slipway-net/slipway/cni-plugin/netconf"
	"github.com/slipway-net/slipway/cni-plugin/store"
)

// brokerWord makes the program a broker, where a runtime calls it a plugin by CNI_COMMAND.
const brokerWord = "broker"

const brokerUsage = `Usage: slipway-cni broker [SOCKET]

Starts helpers for CNI plugins that sit in another network namespace than this one, as
rootless Podman has them, for networks with "outside": "broker". It listens at SOCKET, or
where plugins look by themselves, and runs until it is told to stop; helpers run on.
`

// runBroker is the broker. It returns the exit code.
func runBroker(ctx context.Context, args []string, stderr io.Writer) int {
	if len(args) > 1 || len(args) == 1 && !filepath.IsAbs(args[0]) {
		fmt.Fprint(stderr, brokerUsage)
		return 2
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	err := serveBroker(ctx, append(args, "")[0], log)
	if err != nil {
		fmt.Fprintf(stderr, "slipway-cni: %v\n", err)
		return 1
	}
	return 0
}

func serveBroker(ctx context.Context, socket string, log *slog.Logger) (err error) {
	if socket == "" {
		if socket, err = brokerSocket(netconf.Broker); err != nil {
			return err
		}
	}
	b, err := broker.New(broker.Config{Socket: socket, Spawn: func(r *broker.Request) (*os.Process, error) { return spawnFor(r, log) }, Log: log})
	if err != nil {
		return err
	}
	log.Info("ready", "socket", socket)
	return errors.Join(b.Run(ctx), b.Close())
}

// brokerSocket returns the path of the broker's socket for a value of "outside".
func brokerSocket(outside string) (string, error) {
	if outside != netconf.Broker {
		return outside, nil
	}
	dir, err := store.Dir("")
	if err == nil {
		err = store.Usable(dir)
	}
	return filepath.Join(dir, "broker"), err
}

// brokerPatience is how long systemd may take for a helper of the broker's: the plugin
// waits for the answer, by default ten times as long.
const brokerPatience = time.Second

// spawnFor starts the helper of a request, in the place where we are.
func spawnFor(r *broker.Request, log *slog.Logger) (*os.Process, error) {
	program, err := helper.Program(r.Helper)
	if err != nil {
		return nil, err
	}
	s := helper.Start{Program: program, Args: r.Args, PidFile: r.PidFile, API: r.API, Lock: r.Lock}
	proc, err := s.SpawnIn(r.Dir, r.NetNS, r.Log, r.Ready)
	if err != nil || r.NoScope {
		return proc, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), brokerPatience)
	defer cancel()
	if err := toScope(ctx, proc.Pid, "namespace "+strconv.Quote(r.NetNS)); err != nil {
		log.Warn("the helper stays in the broker's control group", "pid", proc.Pid, "err", err)
	}
	return proc, nil
}

// askBroker has the broker start a helper.
func askBroker(ctx context.Context, conf *netconf.Conf, netns string, s helper.Start, log, ready *os.File) error {
	socket, err := brokerSocket(conf.Outside)
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(netns))
	if err != nil {
		return fmt.Errorf("open the namespace's directory: %w", err)
	}
	defer dir.Close()
	return broker.Ask(ctx, socket, broker.Request{
		Args: s.Args, NetNS: filepath.Base(netns), PidFile: s.PidFile, API: s.API, Helper: conf.Helper,
		NoScope: !conf.OwnScope(), Dir: dir, Ready: ready, Log: log, Lock: s.Lock,
	})
}
