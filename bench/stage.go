// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stepTime bounds one step beyond its windows, so that a subject that hangs holds
// up nobody else.
const stepTime = 2 * time.Minute

// An event is what the stage tells the front, one JSON line each.
type event struct {
	Subjects []Subject `json:"subjects,omitempty"` // with their versions
	Begin    string    `json:"begin,omitempty"`    // the step that starts now
	Record   *Record   `json:"record,omitempty"`   // the step that ended
	Fatal    string    `json:"fatal,omitempty"`    // why there is no topology
}

// A stage runs the steps of one plan in a topology of its own.
type stage struct {
	plan Plan
	mu   sync.Mutex
	out  *json.Encoder
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
	topo, err := newTopology()
	if err != nil {
		return err
	}
	defer topo.close()
	s.askVersions(topo)
	congestion := ""
	var congestionErr error
	for _, st := range s.plan.steps() {
		if ctx.Err() != nil {
			return nil
		}
		if i := s.indexOf(st.Subject.Name); i >= 0 {
			st.Subject = s.plan.Subjects[i]
		}
		if st.Subject.Missing != "" {
			continue
		}
		if st.Congestion != congestion {
			congestion, congestionErr = st.Congestion, topo.setCongestion(st.Congestion)
		}
		s.tell(event{Begin: st.String()})
		r := Record{
			Case: st.Case.Name(), Subject: st.Subject.Name, MTU: st.MTU, Family: st.Family,
			Congestion: st.Congestion, Repeat: st.Repeat, At: time.Now(),
		}
		if congestionErr != nil {
			r.Err = congestionErr.Error()
		} else {
			s.runStep(ctx, topo, st, &r)
		}
		if ctx.Err() == nil {
			s.tell(event{Record: &r})
		}
	}
	return nil
}

// runStep fills in the record.
func (s *stage) runStep(ctx context.Context, topo *topology, st step, r *Record) {
	ctx, cancel := context.WithTimeout(ctx, stepTime+s.plan.Warmup+s.plan.Window)
	defer cancel()
	b, err := openBout(ctx, topo, s.plan, st)
	if err != nil {
		r.Err = err.Error()
		return
	}
	defer b.close()
	if b.helper != nil {
		r.Command, r.Startup = b.helper.argv, b.helper.startup
	}
	values, detail, err := st.Case.run(ctx, b)
	r.Values = values
	if detail != nil {
		if r.Detail, _ = json.Marshal(detail); r.Detail == nil {
			err = errors.Join(err, errors.New("the raw numbers cannot be encoded"))
		}
	}
	if died := b.helperDied(); died != nil {
		err = errors.Join(err, died)
	}
	if err != nil {
		r.Err = err.Error()
		if partial, ok := errors.AsType[partialError](err); ok {
			r.MissingFrom = partial.metric
		}
	}
}

// askVersions runs every subject's program as the plain user.
func (s *stage) askVersions(topo *topology) {
	topo.host.do(func() error {
		for i := range s.plan.Subjects {
			s.plan.Subjects[i].askVersion()
		}
		return nil
	})
	s.tell(event{Subjects: s.plan.Subjects})
}

func (s *stage) indexOf(subject string) int {
	return slices.IndexFunc(s.plan.Subjects, func(x Subject) bool { return x.Name == subject })
}

// tell writes one event. A front that is gone is noticed by the context.
func (s *stage) tell(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Encode(e)
}

// String names the step for the progress line.
func (s step) String() string {
	return fmt.Sprintf("%s mtu %d ipv%d %s: %s, repeat %d", s.Case.Name(), s.MTU, s.Family, s.Congestion, s.Subject.Name, s.Repeat+1)
}
