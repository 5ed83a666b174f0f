// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/supervise"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

const (
	execSynopsis = "exec [flags] CONTAINER COMMAND [ARG...]"
	execAbout    = `Runs COMMAND in a CONTAINER that runs, with the same rights as the container's own
command. Its exit code is passed on; 125 means that slipway failed, 126 that
COMMAND cannot be run, 127 that it was not found. It ends with slipway exec.`
)

// runExec is `slipway exec`.
func runExec(args []string, stdout, stderr io.Writer) int {
	var e launcher.Exec
	var preserve preserveFlags
	fs := newFlagSet("exec")
	fs.SetInterspersed(false)
	interactive := fs.BoolP("interactive", "i", false, "pass standard input on")
	fs.BoolVarP(&e.TTY, "tty", "t", false, "give the command a terminal")
	fs.StringVarP(&e.User, "user", "u", "", "`USER[:GROUP]` to run the command as (default: the container's)")
	preserve.add(fs)
	launcher.AddProcessFlags(fs, &e.Env, &e.Workdir, os.LookupEnv)
	if code, over := parseFlags(fs, args, execSynopsis, execAbout, stdout, stderr); over {
		return code
	}
	code := exitRun
	var err error
	if e.Files, err = preserve.files(firstPreserved); err == nil {
		code, err = execIn(fs, &e, *interactive)
	}
	if err != nil {
		complain(stderr, err)
	}
	return exitCode(code, err)
}

// execIn runs the command that fs ends with, and returns its exit code.
func execIn(fs *pflag.FlagSet, e *launcher.Exec, interactive bool) (int, error) {
	if fs.NArg() < 2 {
		return exitRun, fmt.Errorf("%w: want a container and a command, as in: slipway %s", errUsage, execSynopsis)
	}
	words := fs.Args()[1:]
	if words[0] == "--" {
		words = words[1:]
	}
	e.Args, e.Stdout, e.Stderr = words, os.Stdout, os.Stderr
	if interactive {
		e.Stdin = os.Stdin
	}
	done, err := joinable(fs.Arg(0), e)
	if err != nil {
		return exitRun, err
	}
	defer done()
	// The init stage passes signals on; ours only must not kill us first.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP)
	defer stop()
	return e.Run(ctx)
}

// joinable fills in what e needs to join the container that the word names. The caller
// calls the returned function when e has run.
func joinable(word string, e *launcher.Exec) (done func(), err error) {
	store, c, err := findContainer(word)
	if err != nil {
		return nil, err
	}
	if c.Status != state.Running {
		return nil, errNotRunning(c)
	}
	if e.Order, err = os.ReadFile(filepath.Join(store.Dir(c.ID), supervise.OrderFile)); err != nil {
		return nil, fmt.Errorf("read what the container may do: %w", err)
	}
	e.PID = c.Init.PID
	if e.Pidfd, err = c.Init.Open(); err == nil {
		err = e.Inside()
	}
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("container %s has ended", c.DisplayName())
	} else if err != nil {
		return nil, fmt.Errorf("join container %s: %w", c.DisplayName(), err)
	}
	return func() { unix.Close(e.Pidfd) }, nil
}
