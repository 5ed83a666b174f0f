// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slipway-net/slipway/tap"
)

const (
	// DefaultEvery is how often a Follower looks, where its Config does not say. A
	// look takes 90 µs with few sockets.
	DefaultEvery = 500 * time.Millisecond
	// minEvery keeps a wrong Config from taking up a processor.
	minEvery = 10 * time.Millisecond
	// lookShare bounds what looking takes: a container with so many sockets that a
	// look is long is looked at less often, one part in so many of the time.
	lookShare = 20
	// maxFollowed is how many ports a Follower has published at a time, lest the
	// container take all ports of the host.
	maxFollowed = 1024
	// firstRetry is how long a port is left alone that cannot be published, doubled
	// each time up to lastRetry.
	firstRetry = 10 * time.Second
	lastRetry  = 5 * time.Minute
	// maxWarnings is how many the log gets in warningPeriod: the container decides
	// how many ports there are that cannot be published.
	maxWarnings   = 20
	warningPeriod = time.Minute
)

// DefaultEphemeral is the ports that Linux gives to sockets that ask for any, where
// the sysctl net.ipv4.ip_local_port_range is left alone.
func DefaultEphemeral() PortRange { return PortRange{First: 32768, Last: 60999} }

// A FollowerConfig says what a Follower follows. Table and Source are needed.
type FollowerConfig struct {
	// Auto says what is followed, and where it is published.
	Auto Auto
	// Table publishes the ports.
	Table *Table
	// Source tells what listens.
	Source Source
	// Every is how often it is asked; 0 means DefaultEvery.
	Every time.Duration
	// Ephemeral is the container's ip_local_port_range, of whose UDP ports only those
	// in Auto.Only are followed; the zero range means DefaultEphemeral.
	Ephemeral PortRange
	// Log receives what is followed and what cannot be. Nil discards it.
	Log *slog.Logger
}

// A Follower publishes what listens in the container, and ends that when it listens
// no more. Make it with NewFollower, and Run it.
type Follower struct {
	cfg  FollowerConfig
	plan tap.Plan
	log  *slog.Logger

	services map[portKey]service // of the last look
	states   map[portKey]*followed
	count    int // of states with an ID
	full     bool
	sourceOK bool

	warnings int // since warned
	warned   time.Time
}

// followed is what has become of a service.
type followed struct {
	rule  Rule
	id    int // 0 where it is not published
	retry time.Time
	delay time.Duration
}

// NewFollower returns a Follower. The error is ErrRule, or says what else is wrong
// with the Config.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	if err := cfg.Auto.Check(); err != nil {
		return nil, err
	}
	cfg.Every = cmp.Or(cfg.Every, DefaultEvery)
	if cfg.Every < minEvery {
		return nil, fmt.Errorf("follow ports every %v: want at least %v", cfg.Every, minEvery)
	}
	cfg.Ephemeral = cmp.Or(cfg.Ephemeral, DefaultEphemeral())
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Follower{
		cfg: cfg, plan: cfg.Table.cfg.Plan, log: cfg.Log, sourceOK: true,
		services: make(map[portKey]service), states: make(map[portKey]*followed),
	}, nil
}

// Run follows until ctx is done, and then returns nil, or until the Table is closed,
// and then returns ErrClosed. What is published then stays so.
func (f *Follower) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		start := time.Now()
		if f.look() {
			if err := f.apply(ctx); errors.Is(err, ErrClosed) {
				return err
			}
		}
		timer.Reset(max(f.cfg.Every, lookShare*time.Since(start)))
	}
}

// look finds the services, and reports whether it has found all.
func (f *Follower) look() bool {
	clear(f.services)
	err := f.cfg.Source.Listening(func(l Listening) {
		k := portKey{l.Proto, l.Local.Port()}
		if !f.cfg.Auto.follows(k, f.cfg.Ephemeral) {
			return
		}
		s := f.services[k]
		s.add(l, f.plan)
		f.services[k] = s
	})
	if err != nil && f.sourceOK {
		f.log.Warn("cannot see what listens in the container: the published ports stay as they are", "err", err)
	}
	f.sourceOK = err == nil
	return f.sourceOK
}

// apply brings the table in line with the services.
func (f *Follower) apply(ctx context.Context) error {
	wanted := make(map[portKey]Rule, len(f.services))
	for k, s := range f.services {
		if r, ok := s.rule(k, f.cfg.Auto, f.plan); ok {
			wanted[k] = r
		}
	}
	f.cfg.Table.concede(wanted, func(k portKey) bool { return f.cfg.Auto.follows(k, f.cfg.Ephemeral) })
	if err := f.removeGone(ctx, wanted); err != nil {
		return err
	}
	full := false
	// In order, so that it is not chance which ports a bound leaves out.
	for _, k := range slices.SortedFunc(maps.Keys(wanted), portKey.compare) {
		if f.settled(k) {
			continue
		}
		if full = f.count >= maxFollowed; full {
			break
		}
		if err := f.publish(ctx, k, wanted[k]); err != nil {
			return err
		}
	}
	if full && !f.full {
		f.log.Warn("more services listen in the container than are followed", "followed", maxFollowed)
	}
	f.full = full
	return nil
}

// removeGone ends what listens no more, or otherwise than before, or is a user's now.
func (f *Follower) removeGone(ctx context.Context, wanted map[portKey]Rule) error {
	var ids []int
	for k, st := range f.states {
		if r, ok := wanted[k]; ok && r == st.rule {
			continue
		}
		if st.id != 0 {
			ids = append(ids, st.id)
			f.log.Info("followed no more", "port", st.rule.String())
		}
		f.forget(k)
	}
	return f.cfg.Table.removeAuto(ctx, ids)
}

// settled reports whether nothing is to be done for a service now.
func (f *Follower) settled(k portKey) bool {
	st := f.states[k]
	switch {
	case st == nil:
		return false
	case st.id == 0:
		return time.Now().Before(st.retry)
	case f.cfg.Table.has(st.id):
		return true
	}
	f.forget(k) // somebody has removed it, or wanted it for another
	return false
}

func (f *Follower) forget(k portKey) {
	if st := f.states[k]; st != nil && st.id != 0 {
		f.count--
	}
	delete(f.states, k)
}

// publish publishes one service, by itself, so that one that cannot be keeps no
// other back. The error is one of the Table's, not of the port.
func (f *Follower) publish(ctx context.Context, k portKey, r Rule) error {
	if f.cfg.Table.busy(portOfRule(r, true)) {
		f.forget(k) // a user's port is no failure to tell of
		return nil
	}
	st := f.states[k]
	first := st == nil
	if first {
		st = &followed{rule: r}
		f.states[k] = st
	}
	ports, err := f.cfg.Table.add(ctx, []Rule{r}, true, first)
	switch {
	case err == nil:
		st.id = ports[0].ID
		f.count++
		f.log.Info("followed", "port", r.String(), "id", st.id)
		return nil
	case errors.Is(err, ErrClosed) || ctx.Err() != nil:
		return err
	}
	if first {
		f.warn("a service of the container is not published", err)
	}
	st.delay = min(max(firstRetry, 2*st.delay), lastRetry)
	st.retry = time.Now().Add(st.delay)
	return nil
}

// warn logs, unless there is too much of that.
func (f *Follower) warn(what string, err error) {
	if now := time.Now(); now.Sub(f.warned) >= warningPeriod {
		f.warnings, f.warned = 0, now
	}
	f.warnings++
	switch {
	case f.warnings < maxWarnings:
		f.log.Warn(what, "err", err)
	case f.warnings == maxWarnings:
		f.log.Warn(what+"; there are more, which are not told for a while", "err", err)
	}
}

func (k portKey) compare(o portKey) int {
	return cmp.Or(cmp.Compare(k.port, o.port), strings.Compare(string(k.proto), string(o.proto)))
}
