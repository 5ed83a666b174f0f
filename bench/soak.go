// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-net/slipway/tap"
)

// Times of a soak.
const (
	minSoak     = 10 * time.Second
	soakSamples = 10 // while the load is on
	// restTime bounds the wait until the helper is at rest again: a UDP mapping stays
	// for 300 s without traffic (RFC 4787 §4.3), and the load's last is as young as
	// the load's end.
	restTime  = 320 * time.Second
	restPoll  = 2 * time.Second
	restShow  = restTime / soakSamples // between two lines of the table
	firstRest = 10 * time.Second       // before the load: the connection that proved the path
)

// A soak runs one helper under mixed load for long, and looks at what it holds
// before, meanwhile and after.
type soak struct {
	plan  Plan
	bout  *bout
	api   *apiClient
	tell  func(event)
	began time.Time
}

// soak runs the plan's soak and tells its samples and checks.
func (s *stage) soak(ctx context.Context) error {
	subject := s.plan.Subjects[0]
	if subject.Missing != "" {
		return errors.New(subject.Missing)
	}
	dir, err := os.MkdirTemp("", "slipway-soak-")
	if err != nil {
		return fmt.Errorf("make a place for the API socket: %w", err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "api")
	subject.Extra = concat(subject.Extra, []string{"--api", socket, "--dns", peerAddr4})
	topo, err := newTopology(topologyConfig{Congestion: s.plan.Congestion[0]})
	if err != nil {
		return fmt.Errorf("build the topology: %w", err)
	}
	defer topo.close()
	b, err := openBout(ctx, topo, s.plan, step{
		Subject: subject, MTU: s.plan.MTUs[0], Family: s.plan.Families[0], Congestion: s.plan.Congestion[0],
	})
	if err != nil {
		return err
	}
	defer b.close()
	k := &soak{plan: s.plan, bout: b, api: newAPIClient(socket), tell: s.tell, began: time.Now()}
	return errors.Join(k.run(ctx), b.helperDied())
}

// run takes the helper from rest through the load to rest.
func (k *soak) run(ctx context.Context) error {
	if err := k.bout.peer.call(ctx, 0, "udp.serve", nil, nil); err != nil {
		return err
	}
	before, err := k.settle(ctx, firstRest, "before", soakCounts{}, func(s soakSample) bool { return s.Flows() == 0 })
	if err != nil {
		return err
	}
	// The plan that the helper has without a flag about it.
	plan, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.Prefix{})
	if err != nil {
		return err
	}
	args := soakArgs{Addr: k.bout.addr, DNS: plan.V4.DNS, Duration: k.plan.Soak}
	if err := k.bout.container.call(ctx, dialTimeout, "soak.start", args, nil); err != nil {
		return err
	}
	k.began = time.Now()
	for i := range soakSamples {
		if err := pause(ctx, time.Until(k.began.Add(k.plan.Soak*time.Duration(i+1)/soakSamples))); err != nil {
			return err
		}
		s, err := k.sample(ctx, "load")
		if err != nil {
			return err
		}
		k.tell(event{Sample: &s})
	}
	var end soakCounts
	if err := k.bout.container.call(ctx, soakDrain, "soak.stop", nil, &end); err != nil {
		return err
	}
	after, err := k.settle(ctx, restTime, "after", end, func(s soakSample) bool {
		return passed(judge(k.plan.Soak, before, s))
	})
	if err != nil {
		return err
	}
	k.tell(event{Checks: judge(k.plan.Soak, before, after)})
	return nil
}

// settle samples until done says that all is well or the time is over, and returns
// the last sample. counts are the load's, which does not run. A long wait shows
// lines meanwhile.
func (k *soak) settle(ctx context.Context, limit time.Duration, phase string, counts soakCounts, done func(soakSample) bool) (soakSample, error) {
	start, shown := time.Now(), time.Now()
	for {
		s, err := k.look(ctx, phase, counts)
		if err != nil {
			return s, err
		}
		if done(s) || time.Since(start) > limit {
			k.tell(event{Sample: &s})
			return s, nil
		}
		if time.Since(shown) > restShow {
			shown = time.Now()
			s.Phase = "rest"
			k.tell(event{Sample: &s})
		}
		if err := pause(ctx, restPoll); err != nil {
			return s, err
		}
	}
}

// sample looks at the helper and the load.
func (k *soak) sample(ctx context.Context, phase string) (soakSample, error) {
	var c soakCounts
	if err := k.bout.container.call(ctx, 0, "soak.counts", nil, &c); err != nil {
		return soakSample{}, err
	}
	return k.look(ctx, phase, c)
}

// look reads what the helper holds.
func (k *soak) look(ctx context.Context, phase string, c soakCounts) (soakSample, error) {
	s := soakSample{Phase: phase, At: time.Since(k.began), Counts: c}
	pid := k.bout.helper.pid
	var err error
	// Before the API is asked, whose connections are descriptors too.
	if s.FDs, err = openFiles(pid); err != nil {
		return s, err
	}
	m, err := processMemory(pid)
	if err != nil {
		return s, err
	}
	s.RSS = m.RSS
	if s.CPU, err = cpuSeconds(pid); err != nil {
		return s, err
	}
	if s.Goroutines, err = k.api.goroutines(ctx); err != nil {
		return s, err
	}
	s.TCP, s.UDP, s.Other, err = k.api.flows(ctx)
	return s, err
}

// pause waits for d, or until ctx is done, whose error it returns.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
