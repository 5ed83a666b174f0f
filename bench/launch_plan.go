// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"time"
)

// What a run of container engines measures where the flags do not say otherwise.
const (
	launchSubjects    = "direct,bwrap,crun,runc,podman,umoci,slipway"
	launchRepeat      = 20
	launchQuickRepeat = 3
	launchLimit       = 6 * time.Minute
	launchFiles       = 20_000
	launchMegabytes   = 1000
	launchQuickShare  = 20 // of the files and of the bytes, one in so many in a quick run
)

// Bounds of the image that is made on the spot: a file or more for each layer, and no
// more than are all different (see writeFiles).
const (
	leastFiles    = imageLayers
	mostFiles     = 50_000
	leastMegabyte = 1
	mostMegabytes = 20_000
)

// launchPlace is where a run of container engines writes. Unlike /tmp it is not in
// memory on most machines (file-hierarchy(7)).
const launchPlace = "/var/tmp"

// A LaunchPlan is what a Plan says of a run that measures container engines, which run
// containers, instead of network helpers.
type LaunchPlan struct {
	Files     int    `json:"files"`          // in the image that is made on the spot
	Megabytes int    `json:"megabytes"`      // in those files, 10^6 bytes each
	Dir       string `json:"dir,omitempty"`  // where images and containers are kept while it runs
	User      string `json:"user,omitempty"` // who runs it
}

// launchFlags are the flags of such a run.
type launchFlags struct {
	on   bool
	plan LaunchPlan
}

// add adds the flags to f.
func (l *launchFlags) add(f *flag.FlagSet) {
	f.BoolVar(&l.on, "launch", false, fmt.Sprintf("measure container engines instead of network helpers, as a plain user: -subjects %s -repeat %d -limit %s", launchSubjects, launchRepeat, launchLimit))
	f.IntVar(&l.plan.Files, "files", launchFiles, "with -launch, `number` of files in the image that is pulled")
	f.IntVar(&l.plan.Megabytes, "size", launchMegabytes, "with -launch, `megabytes` of those files")
	f.StringVar(&l.plan.Dir, "dir", launchPlace, "with -launch, `directory` to keep images and containers in while it runs")
}

// apply makes the plan one of container engines, but for what flags say that were
// given.
func (l *launchFlags) apply(p *Plan, given map[string]bool, subjects *string) error {
	if !l.on {
		for _, name := range []string{"files", "size", "dir"} {
			if given[name] {
				return fmt.Errorf("-%s: it says something with -launch only", name)
			}
		}
		return nil
	}
	for _, name := range []string{"soak", "mtu", "family", "cc", "pin", "duration"} {
		if given[name] {
			return fmt.Errorf("-%s: it says nothing of container engines: leave out it or -launch", name)
		}
	}
	p.Launch = &l.plan
	if !given["subjects"] {
		*subjects = launchSubjects
	}
	if !given["repeat"] {
		p.Repeat = launchRepeat
		if p.Quick {
			p.Repeat = launchQuickRepeat
		}
	}
	if p.Quick && !given["files"] {
		l.plan.Files /= launchQuickShare
	}
	if p.Quick && !given["size"] {
		l.plan.Megabytes /= launchQuickShare
	}
	if !given["limit"] {
		p.Limit = launchLimit
	}
	return l.plan.validate()
}

// validate checks what the stage relies on.
func (l LaunchPlan) validate() error {
	if l.Files < leastFiles || l.Files > mostFiles {
		return fmt.Errorf("-files %d: want %d to %d", l.Files, leastFiles, mostFiles)
	}
	if l.Megabytes < leastMegabyte || l.Megabytes > mostMegabytes {
		return fmt.Errorf("-size %d: want %d to %d", l.Megabytes, leastMegabyte, mostMegabytes)
	}
	return nil
}

// fitting returns an error for a subject that takes part in the other kind of run.
func (p Plan) fitting() error {
	for _, s := range p.Subjects {
		t, known := tools()[s.Tool]
		switch {
		case !known: // the direct path takes part in both
		case p.Launch != nil && t.engine == nil:
			return fmt.Errorf("-subjects: %s runs no containers: with -launch, choose among %s", s.Tool, launchSubjects)
		case p.Launch == nil && t.argv == nil:
			return fmt.Errorf("-subjects: %s is no network helper: choose among %s, or give -launch", s.Tool, defaultSubjects)
		}
	}
	return nil
}

// ofKind returns the cases of the plan's kind of run.
func (p Plan) ofKind() []Case {
	if p.Launch != nil {
		return launchCases()
	}
	return allCases()
}

// directAbout says what the direct path is.
func (p Plan) directAbout() string {
	if p.Launch != nil {
		return "no container: the program alone"
	}
	return "no helper: what the machine can do"
}

// isLaunch reports whether the results are of container engines.
func isLaunch(r *Report) bool { return r.Plan.Launch != nil }

// launchConditions is the only way in which container engines are measured.
const launchConditions = "as a plain user"

// withoutNetwork makes the plan one with no conditions of a network.
func (p *Plan) withoutNetwork() {
	p.MTUs, p.Families, p.Congestion, p.Window, p.Warmup = []int{0}, []int{0}, []string{""}, 0, 0
}
