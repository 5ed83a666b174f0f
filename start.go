// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/slipway-net/slipway/launcher/state"
)

const (
	startSynopsis = "start CONTAINER..."
	startAbout    = `Starts each CONTAINER that has ended again, in the background, by the words it was
started with at first. Of one without an image nothing but its log was kept.`
)

// runStart is `slipway start`.
func runStart(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("start")
	if code, over := parseFlags(fs, args, startSynopsis, startAbout, stdout, stderr); over {
		return code
	}
	if err := wantContainers(fs, startSynopsis, 1, -1); err != nil {
		return report(stderr, err)
	}
	return report(stderr, eachContainer(fs.Args(), func(s *state.Store, c *state.Container) error {
		return again(c, stdout)
	}))
}

// again starts a container again.
func again(c *state.Container, stdout io.Writer) error {
	if c.Status != state.Exited {
		return fmt.Errorf("container %s is %s already", c.DisplayName(), c.Status)
	}
	if _, err := detach(c.ID, c.Run.Args, c.Run, nil, io.Discard); err != nil {
		return fmt.Errorf("start container %s: %w", c.DisplayName(), err)
	}
	fmt.Fprintln(stdout, c.DisplayName())
	return nil
}
