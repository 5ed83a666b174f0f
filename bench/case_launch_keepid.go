// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A launchKeepID runs the pulled image twice with the user's own id in the container,
// for which its files are to belong to other ids than those that they were unpacked as.
type launchKeepID struct{}

// Name implements Case.
func (launchKeepID) Name() string { return "launch/keep-id" }

// Wide implements Case.
func (launchKeepID) Wide() bool { return false }

// NeedsHelper implements Case.
func (launchKeepID) NeedsHelper() bool { return true }

// Metrics implements Case.
func (launchKeepID) Metrics() []Metric {
	return []Metric{
		{Name: "first", Unit: "s, first run"},
		{Name: "second", Unit: "s, second run"},
		{Name: "first_disk", Unit: "MB more on the disk, by the first run"},
		{Name: "second_disk", Unit: "MB more on the disk, by the second run"},
	}
}

// rounds implements rare.
func (launchKeepID) rounds(Plan) int { return pullRounds }

// price implements priced.
func (launchKeepID) price(p Plan) time.Duration { return launchPull{}.price(p) }

// launches implements launcher.
func (launchKeepID) launches(s Subject) bool {
	e := tools()[s.Tool].engine
	return s.Tool == directName || e != nil && e.keepID != nil
}

// launch implements launchCase. The image is the one that was pulled last, and is gone
// then: the next first run needs a new one.
func (launchKeepID) launch(ctx context.Context, y *yard, s step) (map[string]float64, any, error) {
	if !y.pulled[s.Subject.Name] {
		if _, err := y.pull(ctx, s.Subject); err != nil {
			return nil, nil, err
		}
	}
	y.pulled[s.Subject.Name] = false
	v := map[string]float64{}
	before, err := diskUsage(y.storeOf(s.Subject))
	if err != nil {
		return nil, nil, err
	}
	for _, run := range []string{"first", "second"} {
		u, err := y.do(ctx, pullLimit, y.keepID(s.Subject, false)...)
		if err != nil {
			return v, nil, err
		}
		if err := u.proveLine(y.line); err != nil {
			return v, nil, err
		}
		after, err := diskUsage(y.storeOf(s.Subject))
		if err != nil {
			return v, nil, err
		}
		v[run], v[run+"_disk"] = u.Time.Seconds(), float64(after.Bytes-before.Bytes)/bytesPerMB
		before = after
	}
	if err := y.hold(ctx, y.keepID(s.Subject, true), keepsID); err != nil {
		return nil, nil, err // then it was no run with keep-id
	}
	return v, nil, nil
}

// keepID is the command line that runs the pulled image with the user's own id.
func (y *yard) keepID(s Subject, hold bool) []string {
	c := y.container(s)
	c.Hold = hold
	return concat([]string{s.Path}, tools()[s.Tool].engine.keepID(c))
}

// keepsID returns an error unless the process has our id in a user namespace of its own,
// and the image's files belong to that one's root.
func keepsID(pid int) error {
	s, err := lookAt(pid)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root%s", pid, programName), &st); err != nil {
		return fmt.Errorf("look at the container's files: %w", err)
	}
	outside := idsOutside(readFile(fmt.Sprintf("/proc/%d/uid_map", pid)))
	own := uint32(os.Getuid())
	root, mapped := outside(0)
	switch id, ok := outside(own); {
	case !slices.Contains(s.Namespaces, "user") || !ok || id != own:
		return fmt.Errorf("the container does not map %d to itself", own)
	case !mapped || st.Uid != root:
		return fmt.Errorf("the image's files belong to %d: the container's root is %d", st.Uid, root)
	}
	return nil
}

// idsOutside returns a function that tells which id of ours one of the namespace is, as
// its uid_map says (user_namespaces(7)).
func idsOutside(s string) func(id uint32) (uint32, bool) {
	return func(id uint32) (uint32, bool) {
		for l := range strings.Lines(s) {
			var inside, outside, size uint32
			if _, err := fmt.Sscan(l, &inside, &outside, &size); err == nil && id >= inside && id-inside < size {
				return outside + (id - inside), true
			}
		}
		return 0, false
	}
}
