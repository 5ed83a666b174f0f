// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"path/filepath"

	"github.com/slipway-net/slipway/launcher/state"
)

const (
	inspectSynopsis = "inspect CONTAINER..."
	inspectAbout    = "Prints all that is known of each CONTAINER, as a list in JSON."
)

// runInspect is `slipway inspect`.
func runInspect(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("inspect")
	if code, over := parseFlags(fs, args, inspectSynopsis, inspectAbout, stdout, stderr); over {
		return code
	}
	if err := wantContainers(fs, inspectSynopsis, 1, -1); err != nil {
		return report(stderr, err)
	}
	found := []inspected{}
	err := eachContainer(fs.Args(), func(s *state.Store, c *state.Container) error {
		i := inspected{Container: c, Dir: s.Dir(c.ID)}
		if dir := filepath.Dir(s.LogDir(&c.Record)); dir != i.Dir {
			i.DataDir = dir
		}
		found = append(found, i)
		return nil
	})
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	if werr := enc.Encode(found); err == nil {
		err = werr
	}
	return report(stderr, err)
}

// An inspected is a container, and where what belongs to it is.
type inspected struct {
	*state.Container
	Dir     string `json:"dir"`
	DataDir string `json:"data_dir,omitempty"`
}
