// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/slipway-net/slipway/launcher/userns"
)

// The modes of --userns.
const (
	usernsHost   = "host"
	usernsKeepID = "keep-id"
	usernsAuto   = "auto"
	usernsNoMap  = "nomap"
	usernsSingle = "single"
)

// A UserNS says which ids a container has. The zero UserNS is the host mode: 0 is the
// caller, other ids are subordinate ones where there are any.
type UserNS struct {
	mode     string
	uid, gid *uint32 // of keep-id
	size     uint32  // of auto
}

// Set takes MODE[:KEY=VALUE,...].
func (u *UserNS) Set(s string) error {
	mode, options, _ := strings.Cut(s, ":")
	n := UserNS{mode: mode}
	switch mode {
	case usernsHost, usernsNoMap, usernsSingle, usernsKeepID, usernsAuto:
	default:
		return errors.New("want host, keep-id, auto, nomap or single")
	}
	for word := range strings.SplitSeq(options, ",") {
		if word == "" {
			continue
		}
		key, value, _ := strings.Cut(word, "=")
		v, err := strconv.ParseUint(value, 10, 32)
		if err != nil || v >= math.MaxUint32 {
			return fmt.Errorf("%s: want a number", word)
		}
		id := uint32(v)
		switch {
		case mode == usernsKeepID && key == "uid":
			n.uid = &id
		case mode == usernsKeepID && key == "gid":
			n.gid = &id
		case mode == usernsAuto && key == "size" && id > 0:
			n.size = id
		default:
			return fmt.Errorf("%s: %s has no such option", word, mode)
		}
	}
	*u = n
	return nil
}

// Type names the value's kind to pflag.
func (*UserNS) Type() string { return "mode" }

// String is the mode.
func (u *UserNS) String() string {
	if u.mode == "" {
		return usernsHost
	}
	return u.mode
}

// Fit makes room for the ids up to greatest, those of an image's files, where a slice
// of ids is taken and no size was asked for.
func (u *UserNS) Fit(greatest uint32) {
	if u.mode == usernsAuto && u.size == 0 && greatest < math.MaxUint32 {
		u.size = greatest + 1
	}
}

// IsZero reports whether no mode was asked for.
func (u *UserNS) IsZero() bool { return u.mode == "" }

// NeedsPool reports whether ids are taken from a pool: then Auto, and not Mapping, is to
// be called.
func (u *UserNS) NeedsPool() bool { return u.mode == usernsAuto }

// Auto takes a slice of ids from pool for owner, which is the caller's to close, and returns
// the mapping of it.
func (u *UserNS) Auto(c userns.Caller, pool userns.Pool, owner string) (userns.Mapping, *userns.Lease, error) {
	l, err := pool.Take(owner, u.size, c.Available())
	if err != nil {
		return userns.Mapping{}, nil, err
	}
	m, err := c.Auto(l.Slice)
	if err != nil {
		l.Close()
		return userns.Mapping{}, nil, err
	}
	return m, l, nil
}

// Mapping returns the mapping that u asks for, and the user whom it makes the default. The
// error is an ErrNoSubIDs where ids are missing.
func (u *UserNS) Mapping(c userns.Caller) (userns.Mapping, string, error) {
	switch u.mode {
	case usernsSingle:
		return c.Single(), "", nil
	case usernsNoMap:
		m, err := c.NoMap()
		return m, "", err
	case usernsKeepID:
		uid, gid := c.UID, c.GID
		if u.uid != nil {
			uid = *u.uid
		}
		if u.gid != nil {
			gid = *u.gid
		}
		m, err := c.KeepID(uid, gid)
		return m, fmt.Sprintf("%d:%d", uid, gid), err
	}
	m, err := c.Default()
	return m, "", err
}
