// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"log/slog"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/userns"
)

// mapIDs fills in the ids that --userns asks for; without it an image's are those of
// the store. owner is whom a slice of ids is taken for. What is returned gives that back
// when the container has ended.
func mapIDs(u *launcher.UserNS, cfg *launcher.Config, owner string, log *slog.Logger) (free func(), err error) {
	free = func() {}
	if u.IsZero() {
		return free, nil
	}
	caller, err := userns.Load()
	if err != nil {
		return free, err
	}
	pool, err := slicePool()
	if err != nil {
		return free, err
	}
	m, user, err := u.Mapping(caller, pool, owner)
	if err != nil {
		return free, err
	}
	cfg.IDs = m
	if user != "" {
		cfg.Account = cmp.Or(caller.Name, "user") + ":" + user
	}
	if cfg.User == "" {
		cfg.User = user
	}
	if !u.NeedsPool() {
		return free, nil
	}
	return func() {
		if err := pool.Free(owner); err != nil {
			log.Warn("give the container's ids back", "err", err)
		}
	}, nil
}

// defaultIDs gives a container with a root of its own, which has its own users, the
// mapping of the host mode where nothing else has given it one.
func defaultIDs(cfg *launcher.Config, log *slog.Logger) error {
	if cfg.Root.IsHost() || !cfg.IDs.IsZero() {
		return nil
	}
	caller, err := userns.Load()
	if err != nil {
		return err
	}
	cfg.IDs, err = caller.Default()
	if errors.Is(err, userns.ErrNoSubIDs) {
		log.Warn("the container has your id and no other", "why", err)
		cfg.IDs, err = caller.Single(), nil
	}
	return err
}

// slicePool gives out subordinate ids to the containers of --userns=auto.
func slicePool() (userns.Pool, error) {
	store, err := openStore() // which sees to it that the directory is ours
	if err != nil {
		return userns.Pool{}, err
	}
	return userns.Pool{Dir: store.RunDir()}, nil
}

// owner is whom ids are taken for: a container that is started again gets those it had,
// and so does one of the same name, for the sake of its volumes.
func (r *runner) owner() string {
	switch {
	case r.life.name != "":
		return r.life.name
	case r.again != "":
		return r.again
	}
	return state.NewID()
}
