// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/slipway-net/slipway/launcher/cninet"
	"github.com/slipway-net/slipway/launcher/fuse"
	"github.com/slipway-net/slipway/launcher/overlay"
	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/tarsplit"
	"github.com/slipway-net/slipway/launcher/userns"
)

// stages are what this binary does in a user namespace of its own, by the names that
// userns.Command is given. Each may chown and remove files of subordinate ids.
func stages() map[string]func(args []string, stdout, stderr io.Writer) int {
	return map[string]func(args []string, stdout, stderr io.Writer) int{
		overlay.StageName: overlay.Serve,
		fuse.StageName:    func(args []string, _, stderr io.Writer) int { return fuse.Serve(args, stderr) },
		cninet.StageName:  func([]string, io.Writer, io.Writer) int { return cninet.Serve(os.Stdin, os.Stdout) },
		tarsplit.StageName: func(_ []string, stdout, stderr io.Writer) int {
			return tarsplit.Serve(os.Stdin, stdout, stderr)
		},
		store.StageName: func([]string, io.Writer, io.Writer) int { return store.Serve() },
	}
}

// stageMain is the main function of a stage.
func stageMain(args []string, stdout, stderr io.Writer) int {
	name, words, err := userns.Stage(args)
	if err != nil {
		return report(stderr, err)
	}
	run, ok := stages()[name]
	if !ok {
		return report(stderr, fmt.Errorf("%w: unknown stage %q", errUsage, name))
	}
	return run(words, stdout, stderr)
}
