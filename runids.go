// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"log/slog"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/userns"
)

// mapIDs fills in the ids that --userns asks for; without it an image's are those of
// the store. The lease of a slice of ids, nil without one, is to be closed when the container
// has ended.
func (r *runner) mapIDs() (*userns.Lease, error) {
	u, cfg := &r.more.UserNS, &r.cfg
	if u.IsZero() {
		return nil, nil
	}
	caller, err := userns.Load()
	if err != nil {
		return nil, err
	}
	if u.NeedsPool() {
		pool, err := slicePool()
		if err != nil {
			return nil, err
		}
		m, lease, err := u.Auto(caller, pool, r.owner())
		cfg.IDs = m
		return lease, err
	}
	m, user, err := u.Mapping(caller)
	if err != nil {
		return nil, err
	}
	cfg.IDs = m
	if user != "" {
		cfg.Account = cmp.Or(caller.Name, "user") + ":" + user
	}
	if cfg.User == "" {
		cfg.User = user
	}
	return nil, nil
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

// slicePool gives out subordinate ids to the containers of --userns=auto, but those that
// files of others have, whether those run or not.
func slicePool() (userns.Pool, error) {
	store, err := openStore() // which sees to it that the directory is ours
	if err != nil {
		return userns.Pool{}, err
	}
	return userns.Pool{Dir: store.RunDir(), Others: func() (map[string]userns.Slice, error) {
		others := map[string]userns.Slice{}
		all, err := store.List()
		for _, c := range all {
			if c.Slice.Size > 0 {
				others[cmp.Or(c.Name, c.ID)] = userns.Slice(c.Slice)
			}
		}
		return others, err
	}}, nil
}

// owner is whom ids are taken for: a container that is started again gets those it had,
// and so does one of the same name, for the sake of its volumes.
func (r *runner) owner() string { return cmp.Or(r.life.name, r.id) }
