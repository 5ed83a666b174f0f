// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pullRounds is how often an image is pulled: each takes as long as hundreds of starts,
	// and the disk that it takes until the end.
	pullRounds = 3
	// imageRate is about how fast an image is pulled and unpacked, for the estimate (MB/s).
	imageRate = 100
	// pullLimit bounds one pull, and a run that copies the image.
	pullLimit = 5 * time.Minute
)

// A launchPull pulls an image of many files from a registry on the loopback and unpacks
// it, so that a container could run.
type launchPull struct{}

// Name implements Case.
func (launchPull) Name() string { return "launch/pull" }

// Wide implements Case.
func (launchPull) Wide() bool { return false }

// NeedsHelper implements Case.
func (launchPull) NeedsHelper() bool { return true }

// Metrics implements Case.
func (launchPull) Metrics() []Metric {
	return []Metric{
		{Name: "time", Unit: "s"},
		{Name: "cpu", Unit: "CPU s"},
		{Name: "disk", Unit: "MB on the disk"},
	}
}

// rounds implements rare.
func (launchPull) rounds(Plan) int { return pullRounds }

// price implements priced.
func (launchPull) price(p Plan) time.Duration {
	return time.Duration(p.Launch.Megabytes) * time.Second / imageRate
}

// launches implements launcher.
func (launchPull) launches(s Subject) bool {
	e := tools()[s.Tool].engine
	return s.Tool == directName || e != nil && e.pull != nil
}

// pull has the subject pull the image anew, into a new store. Those before it stay until
// the end: see launch_forget.go.
func (y *yard) pull(ctx context.Context, s Subject) (usage, error) {
	if err := y.serve(); err != nil {
		return usage{}, err
	}
	if err := y.newStore(s); err != nil {
		return usage{}, err
	}
	// What others have written is on the disk before this one writes.
	unix.Sync()
	var total usage
	for _, argv := range tools()[s.Tool].engine.pull(y.container(s)) {
		u, err := y.do(ctx, pullLimit, argv...)
		if err != nil {
			return usage{}, err
		}
		total.Time += u.Time
		total.CPU += u.CPU
	}
	return total, nil
}

// storeOf is where the subject keeps the image that it pulled last.
func (y *yard) storeOf(s Subject) string { return y.stores[s.Name] }

// serve makes the image and starts the registry, once.
func (y *yard) serve() error {
	if y.registry != nil {
		return nil
	}
	layout := filepath.Join(y.dir, "image")
	layers := append([]layerWriter{y.rootLayer}, fileLayers(y.plan.Files, int64(y.plan.Megabytes)*bytesPerMB)...)
	manifest, err := writeLayout(layout, "latest", layers...)
	if err != nil {
		return err
	}
	y.registry, err = startRegistry(layout, registryName, manifest)
	return err
}

// launch implements launchCase.
func (launchPull) launch(ctx context.Context, y *yard, s step) (map[string]float64, any, error) {
	u, err := y.pull(ctx, s.Subject)
	if err != nil {
		return nil, nil, err
	}
	disk, err := diskUsage(y.storeOf(s.Subject))
	if err == nil && disk.Files < y.plan.Files {
		err = fmt.Errorf("it ended well, but of %d files %d are on the disk", y.plan.Files, disk.Files)
	}
	if err != nil {
		return nil, nil, err
	}
	y.pulled[s.Subject.Name] = true
	return map[string]float64{"time": u.Time.Seconds(), "cpu": u.CPU, "disk": float64(disk.Bytes) / bytesPerMB}, nil, nil
}

// bytesPerMB turns bytes into megabytes.
const bytesPerMB = 1e6
