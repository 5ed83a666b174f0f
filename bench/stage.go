// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stepTime bounds one step beyond its windows, so that a subject that hangs holds
// up nobody else.
const stepTime = 2 * time.Minute

// An event is what the stage tells the front, one JSON line each.
type event struct {
	Subjects []Subject     `json:"subjects,omitempty"` // with their versions
	Gaps     []Gap         `json:"gaps,omitempty"`     // what this machine lacks
	Begin    string        `json:"begin,omitempty"`    // the step that starts now
	Price    time.Duration `json:"price_ns,omitempty"` // of the step that starts or is left out
	Record   *Record       `json:"record,omitempty"`   // the step that ended
	LeftOut  bool          `json:"left_out,omitempty"` // a repeat that the limit forbids
	Fatal    string        `json:"fatal,omitempty"`    // why nothing can be measured

	Trace *traceJob `json:"trace,omitempty"` // what the front is to trace

	Sample *soakSample `json:"sample,omitempty"` // of a soak
	Checks []soakCheck `json:"checks,omitempty"` // the end of a soak
}

// A stage runs the steps of one plan. It is used by one goroutine.
type stage struct {
	plan     Plan
	out      *json.Encoder
	patience patience
}

// runStage reads a plan, runs it and writes events. It returns nil when ctx is
// cancelled.
func runStage(ctx context.Context, in io.Reader, out io.Writer) error {
	s := &stage{out: json.NewEncoder(out)}
	if err := json.NewDecoder(in).Decode(&s.plan); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if err := s.run(ctx); err != nil && ctx.Err() == nil {
		s.tell(event{Fatal: err.Error()})
	}
	return nil
}

func (s *stage) run(ctx context.Context) error {
	// Helpers that go into the background become our children again.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt helpers: %w", err)
	}
	if err := s.askVersions(ctx); err != nil {
		return err
	}
	if s.plan.Soak > 0 {
		return s.soak(ctx)
	}
	s.runRounds(ctx, s.runStep)
	return nil
}

// runRounds runs every step of the plan by run, which fills in the record, as far as
// the limit allows, or until ctx is done.
func (s *stage) runRounds(ctx context.Context, run runner) {
	budget := newBudget(s.plan.Limit)
	for _, round := range s.plan.rounds() {
		round = slices.DeleteFunc(round, func(st step) bool { return !s.plan.runs(st) })
		if !budget.allows(round) {
			for _, st := range round {
				s.tell(event{LeftOut: true, Price: s.plan.cost(st)})
			}
			continue
		}
		start := time.Now()
		s.runRound(ctx, round, run)
		if ctx.Err() != nil {
			return
		}
		budget.spend(round, time.Since(start))
	}
}

// A runner runs a step and fills in its record.
type runner func(ctx context.Context, st step, r *Record)

// runRound gives each subject its turn and tells what came of it.
func (s *stage) runRound(ctx context.Context, round []step, run runner) {
	for _, st := range round {
		s.tell(event{Begin: st.String(), Price: s.plan.cost(st)})
		r := Record{
			Case: st.Case.Name(), Subject: st.Subject.Name, MTU: st.MTU, Family: st.Family,
			Congestion: st.Congestion, Repeat: st.Repeat, At: time.Now(),
		}
		if why := s.patience.over(st); why != "" {
			r.Err = why
		} else {
			run(ctx, st, &r)
		}
		if ctx.Err() != nil {
			return
		}
		s.tell(event{Record: &r})
	}
}

// runStep fills in the record.
func (s *stage) runStep(ctx context.Context, st step, r *Record) {
	ctx, cancel := context.WithTimeout(ctx, stepTime+s.plan.price(st.Case))
	defer cancel()
	defer func() {
		if err := endOrphans(); err != nil && r.Err == "" {
			r.Err = err.Error()
		}
	}()
	topo, err := newTopology(topologyConfig{Congestion: st.Congestion, Delay: delayOf(st.Case)})
	if err != nil {
		r.Err = fmt.Sprintf("build the topology: %v", err)
		return
	}
	defer topo.close()
	b, err := openBout(ctx, topo, s.plan, st)
	if err != nil {
		s.end(ctx, st, r, err)
		return
	}
	defer b.close()
	r.CPUs = b.cpus()
	if b.helper != nil {
		r.Startup = b.helper.startup
		r.Command = b.helper.command()
	}
	err = r.keep(st.Case.(networkCase).run(ctx, b))
	if err != nil && b.helper != nil {
		b.helper.mayDie()
	}
	if died := b.helperDied(); died != nil {
		// It is why the rest failed. What was counted until then is in the detail, but is
		// no result, unless the case vouches for it.
		if _, ok := errors.AsType[partialError](err); ok {
			err = errors.Join(err, died)
		} else {
			err, r.Values = died, nil
		}
	}
	if err == nil {
		r.Proof = b.prove(ctx)
	}
	s.end(ctx, st, r, err)
}

// keep takes down what a case returned, and returns its error with those of values
// that cannot be.
func (r *Record) keep(values map[string]float64, detail any, err error) error {
	r.Values = values
	if detail != nil {
		raw, encErr := json.Marshal(detail)
		r.Detail, err = raw, errors.Join(err, encErr)
	}
	return errors.Join(dropNonFinite(r.Values), err)
}

// end takes down how a step ended, err being nil where it ended well.
func (s *stage) end(ctx context.Context, st step, r *Record, err error) {
	if err != nil {
		// One line: joined errors have one each.
		r.Err = strings.ReplaceAll(err.Error(), "\n", "; ")
		if partial, ok := errors.AsType[partialError](err); ok {
			r.MissingFrom = partial.metric
		}
	}
	blame := ""
	if _, ok := errors.AsType[helperError](err); ok {
		blame = r.Err
	}
	if ctx.Err() == nil {
		s.patience.note(st, blame)
	}
}

// askVersions runs every subject's program as the plain user.
func (s *stage) askVersions(ctx context.Context) error {
	user := newPlace()
	defer user.close()
	err := user.do(func() error {
		if err := dropCapabilities(); err != nil {
			return err
		}
		s.probePrograms()
		for i := range s.plan.Subjects {
			s.plan.Subjects[i].askVersion(ctx, s.plan.StartLimit)
		}
		return nil
	})
	if err := errors.Join(err, endOrphans(), s.probeNetwork(ctx)); err != nil {
		return err
	}
	s.tell(event{Subjects: s.plan.Subjects, Gaps: s.plan.Gaps})
	return nil
}

// tell writes one event. A front that is gone is noticed by the context.
func (s *stage) tell(e event) {
	s.out.Encode(e)
}

// String names the step for the progress line.
func (s step) String() string {
	at := fmt.Sprintf(" mtu %d ipv%d %s", s.MTU, s.Family, s.Congestion)
	if s.MTU == 0 {
		at = "" // no network is measured
	}
	return fmt.Sprintf("%s%s: %s, repeat %d", s.Case.Name(), at, s.Subject.Name, s.Repeat+1)
}
