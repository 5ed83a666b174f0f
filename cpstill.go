// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/userns"
)

// stillCopier returns who carries the files of a container that does not run. The
// container is made of the words it was started with, as `slipway start` does, but for
// the network and the command. Until done is called it cannot be started.
func stillCopier(c *state.Container) (_ copier, done func() error, err error) {
	// Paths among the words are of that directory.
	if err := os.Chdir(c.Run.Dir); err != nil {
		return nil, nil, fmt.Errorf("copy files of container %s, which is not running: enter the directory it was started in: %w", c.DisplayName(), err)
	}
	r := newRunner(c.Run.Args)
	r.again = c.ID
	r.life.recorded = c.Run.Env
	if err := r.fs.Parse(c.Run.Args); err != nil {
		return nil, nil, fmt.Errorf("understand how container %s was started: %w", c.DisplayName(), err)
	}
	if c.Layer != "" {
		r.root.storage.root = filepath.Dir(filepath.Dir(c.Layer))
	}
	log := slog.New(slog.DiscardHandler)
	// They are what its files have, wherever they are from.
	r.root.ids = func(uint32) error {
		r.cfg.IDs = userns.Mapping{UIDs: recordedMapping(c.UIDs), GIDs: recordedMapping(c.GIDs)}
		return nil
	}
	root, err := r.root.prepare(context.Background(), r.fs, &r.cfg, c.Layer, log, os.Stderr)
	if err != nil {
		return nil, nil, fmt.Errorf("copy files of container %s, which is not running: %w", c.DisplayName(), err)
	}
	if r.cfg.Root.Dir == "" && r.cfg.Root.Upper == "" {
		err := fmt.Errorf("container %s is not running, and what it wrote was not kept", c.DisplayName())
		return nil, nil, errors.Join(err, root.close(true, nil))
	}
	r.cfg.Log = log
	return launcher.StillCopy{Config: r.cfg}, func() error { return root.close(true, nil) }, nil
}

// recordedMapping is what was written down of a mapping by stateMapping.
func recordedMapping(ranges []state.Mapping) []userns.Range {
	var m []userns.Range
	for _, r := range ranges {
		m = append(m, userns.Range{Inside: r.Container, Outside: r.Host, Size: r.Size})
	}
	return m
}
