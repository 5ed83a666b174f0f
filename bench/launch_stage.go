// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// byRoot is the argument of a launch stage whose front is root, who can trace programs
// that are set-user-ID.
const byRoot = "by-root"

// A launchStage runs the steps of a plan that measures container engines, as the plain
// user on the machine itself.
type launchStage struct {
	stage
	yard *yard
}

// runLaunchStage reads a plan, runs it and writes events. It returns nil when ctx is
// cancelled.
func runLaunchStage(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	s := &launchStage{stage: stage{out: json.NewEncoder(out)}}
	d := json.NewDecoder(in)
	if err := d.Decode(&s.plan); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if s.plan.Launch == nil {
		return errors.New("read the plan: it measures no container engines")
	}
	trace := func(ctx context.Context, j traceJob) traceResult { return strace(ctx, s.yard.home, j) }
	if len(args) == 1 && args[0] == byRoot {
		trace = traceByFront(s.tell, d)
	}
	if err := s.run(ctx, trace); err != nil && ctx.Err() == nil {
		s.tell(event{Fatal: err.Error()})
	}
	return nil
}

func (s *launchStage) run(ctx context.Context, t tracer) (err error) {
	// What engines leave in the background becomes our child.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt what engines leave: %w", err)
	}
	if s.yard, err = newYard(*s.plan.Launch, s.plan.StartLimit, t); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.yard.close()) }()
	s.yard.settleIn()
	for i := range s.plan.Subjects {
		s.plan.Subjects[i].askVersion(ctx, s.plan.StartLimit)
	}
	if err := endOrphans(); err != nil {
		return err
	}
	if err := openTun(tunPath); err != nil {
		s.plan.Gaps = append(s.plan.Gaps, Gap{Cases: launchStart{network: true}.Name(), Why: err.Error()})
	}
	s.tell(event{Subjects: s.plan.Subjects, Gaps: s.plan.Gaps})
	s.runRounds(ctx, s.runStep)
	return nil
}

// runStep fills in the record.
func (s *launchStage) runStep(ctx context.Context, st step, r *Record) {
	c := st.Case.(launchCase)
	ctx, cancel := context.WithTimeout(ctx, stepTime+s.plan.price(c))
	defer cancel()
	r.Command = s.yard.shown(st)
	s.end(ctx, st, r, r.keep(c.launch(ctx, s.yard, st)))
}
