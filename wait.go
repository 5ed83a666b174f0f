// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/slipway-net/slipway/launcher/state"
)

const (
	waitSynopsis = "wait CONTAINER..."
	waitAbout    = "Waits for the end of each CONTAINER, and prints its exit code."
)

// runWait is `slipway wait`.
func runWait(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("wait")
	if code, over := parseFlags(fs, args, waitSynopsis, waitAbout, stdout, stderr); over {
		return code
	}
	if err := wantContainers(fs, waitSynopsis, 1, -1); err != nil {
		return report(stderr, err)
	}
	return report(stderr, eachContainer(fs.Args(), func(s *state.Store, c *state.Container) error {
		w, err := s.Watch(c)
		if err != nil {
			return err
		}
		defer w.Close()
		e, err := w.Wait(context.Background())
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, e.Code)
		return nil
	}))
}
