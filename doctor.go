// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/tap"
	"github.com/spf13/pflag"
)

const (
	doctorSynopsis = "doctor"
	doctorAbout    = `Tries what slipway needs of this machine, as the calling user, and prints the
command that mends what is not well. Changes nothing itself.`
)

// runDoctor is `slipway doctor`.
func runDoctor(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("doctor")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			fmt.Fprintf(stdout, "Usage: slipway %s\n\n%s\n", doctorSynopsis, doctorAbout)
			return exitOK
		}
		return report(stderr, fmt.Errorf("%w: %w", errUsage, err))
	}
	if fs.NArg() != 0 {
		return report(stderr, fmt.Errorf("%w: doctor takes no arguments", errUsage))
	}
	ofContainers := launcher.Checks(context.Background())
	needed := []tap.Check{tap.CheckUserNS(), tap.CheckTun(), ofContainers[0]}
	useful := append([]tap.Check{tap.CheckPing()}, attach.CheckAcceleration()...)
	useful = append(useful, attach.CheckSandbox()...)
	useful = append(useful, ofContainers[1:]...)
	useful = append(useful, checkStorage(context.Background())...)
	well := diagnose(stdout, "Needed", needed)
	diagnose(stdout, "Of use, but not needed", useful)
	if !well {
		return exitError
	}
	return exitOK
}

// diagnose prints checks and reports whether all are well.
func diagnose(w io.Writer, title string, checks []tap.Check) bool {
	well := true
	fmt.Fprintf(w, "%s:\n", title)
	for _, c := range checks {
		mark := "ok"
		if !c.OK {
			mark, well = "no", false
		}
		fmt.Fprintf(w, "  %-3s %s", mark, c.Name)
		if c.Detail != "" {
			fmt.Fprintf(w, ": %s", c.Detail)
		}
		fmt.Fprintln(w)
		if !c.OK && c.Fix != "" {
			fmt.Fprintf(w, "      mend: %s\n", c.Fix)
		}
	}
	return well
}
