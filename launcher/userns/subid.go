// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Where the ranges of subordinate ids are (subuid(5), subgid(5)), and the file that
// says whether they are elsewhere (the "subid" line of nsswitch.conf(5)).
const (
	subUIDFile   = "/etc/subuid"
	subGIDFile   = "/etc/subgid"
	nsswitchFile = "/etc/nsswitch.conf"
)

// maxFile bounds in bytes what is read of those files: some 30 000 users.
const maxFile = 1 << 20

// subIDsTimeout is how long getsubids(1) may take to ask a directory service.
const subIDsTimeout = 10 * time.Second

// firstSubID is the first id that useradd(8) gives out (SUB_UID_MIN, login.defs(5)).
const firstSubID = 100000

// nameOf returns the name of the user uid, or "".
func nameOf(uid uint32) string {
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		return u.Username
	}
	// A user of a directory service is in no file; its session has the name.
	return os.Getenv("USER")
}

// subordinate finds the ranges of a user. The files answer in microseconds;
// getsubids(1) is asked only where nsswitch.conf names another source.
func subordinate(name string, uid uint32) (uids, gids []Extent, err error) {
	if conf, err := readFile(nsswitchFile); err == nil && subIDsElsewhere(string(conf)) && name != "" {
		uids, uerr := getSubIDs(name)
		gids, gerr := getSubIDs("-g", name)
		if uerr == nil && gerr == nil {
			return uids, gids, nil
		}
	}
	if uids, err = fileSubIDs(subUIDFile, name, uid); err != nil {
		return nil, nil, err
	}
	gids, err = fileSubIDs(subGIDFile, name, uid)
	return uids, gids, err
}

// subIDsElsewhere reports whether the contents of nsswitch.conf name a source of
// subordinate ids besides files.
func subIDsElsewhere(conf string) bool {
	for line := range strings.Lines(conf) {
		if sources, ok := strings.CutPrefix(strings.TrimSpace(line), "subid:"); ok {
			return strings.TrimSpace(sources) != "files"
		}
	}
	return false
}

// getSubIDs asks getsubids(1), whose lines are "0: name 100000 65536".
func getSubIDs(args ...string) ([]Extent, error) {
	ctx, cancel := context.WithTimeout(context.Background(), subIDsTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "getsubids", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("getsubids %s: %w", strings.Join(args, " "), err)
	}
	var extents []Extent
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if e, ok := parseExtent(f[len(f)-2], f[len(f)-1]); ok {
			extents = append(extents, e)
		}
	}
	return disjoint(extents), nil
}

func fileSubIDs(file, name string, uid uint32) ([]Extent, error) {
	b, err := readFile(file)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read subordinate ids: %w", err)
	}
	return ParseSubIDs(string(b), name, uid), nil
}

// ParseSubIDs returns the ranges that the contents of a subuid(5) file have for a
// user, by its name or its uid, in their order. Lines that are not as written there
// and ranges that overlap an earlier one are passed over.
func ParseSubIDs(file, name string, uid uint32) []Extent {
	number := strconv.FormatUint(uint64(uid), 10)
	var extents []Extent
	for line := range strings.Lines(file) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] == "" || f[0] != name && f[0] != number {
			continue
		}
		if e, ok := parseExtent(f[1], f[2]); ok {
			extents = append(extents, e)
		}
	}
	return disjoint(extents)
}

func parseExtent(start, size string) (Extent, bool) {
	s, serr := strconv.ParseUint(start, 10, 32)
	n, nerr := strconv.ParseUint(size, 10, 32)
	// The last id of all is no id (-1).
	if serr != nil || nerr != nil || n == 0 || s > math.MaxUint32-n {
		return Extent{}, false
	}
	return Extent{uint32(s), uint32(n)}, true
}

// disjoint drops what overlaps an earlier extent, and what is beyond the number of
// ranges that a mapping may have.
func disjoint(extents []Extent) []Extent {
	var kept []Extent
	for _, e := range extents {
		clash := slices.ContainsFunc(kept, func(k Extent) bool { return overlap(e.Start, e.Size, k.Start, k.Size) })
		if !clash && len(kept) < maxRanges-2 {
			kept = append(kept, e)
		}
	}
	return kept
}

// firstFree returns the start of WantIDs ids above all that a file gives out.
func firstFree() uint32 {
	free := uint64(firstSubID)
	for _, file := range []string{subUIDFile, subGIDFile} {
		b, err := readFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if len(f) != 3 {
				continue
			}
			if e, ok := parseExtent(f[1], f[2]); ok {
				free = max(free, uint64(e.Start)+uint64(e.Size))
			}
		}
	}
	if free > math.MaxUint32-WantIDs {
		return firstSubID // somebody has them all; the administrator will see
	}
	return uint32(free)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}
